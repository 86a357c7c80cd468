package hyperdht

import (
	"bytes"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/internal/keep"
)

func (s *storage) mutableGet(now time.Time, r *dhtrpc.Request) answer {
	if r.Target == nil || r.Value == nil {
		return drop(&s.counts.Malformed)
	}
	seq, err := parseMutableGet(r.Value)
	if err != nil {
		return drop(&s.counts.Malformed)
	}
	a := answer{verdict: verdictReply}
	if held := s.read(now, kindMutable, s.mutables, *r.Target); held != nil && seqOf(held) >= seq {
		a.value = held
	}
	return done(&s.counts.MutableGet, a)
}

func (s *storage) mutablePut(now time.Time, r *dhtrpc.Request) answer {
	if r.Target == nil || r.Token == nil || r.Value == nil {
		return drop(&s.counts.Malformed)
	}
	m, err := parseMutablePut(r.Value)
	if err != nil {
		return drop(&s.counts.Malformed)
	}
	if len(m.value) > MaxStoredValue {
		return drop(&s.counts.TooLarge)
	}
	target := Target(*r.Target)
	if TargetOf(m.key) != target {
		return drop(&s.counts.BadTarget)
	}
	held, _, _ := s.mutables.Get(now, target)
	record := m.mutableRecord.append(make([]byte, 0, m.size()))
	if !bytes.Equal(held, record) {
		message := m.signable()
		if !s.verify(now, r.From, &m.key, message[:], &m.signature) {
			return answer{}
		}
	}
	if held != nil {
		old, err := parseMutableRecord(held)
		switch {
		case err != nil:
			panic("BUG: hyperdht: stored record does not parse")
		case m.seq < old.seq:
			return done(&s.counts.SeqTooLow, answer{verdict: verdictError, code: SeqTooLow})
		case m.seq == old.seq && !bytes.Equal(m.value, old.value):
			return done(&s.counts.SeqReused, answer{verdict: verdictError, code: SeqReused})
		}
	}
	s.mutables.PutSized(now, target, record, len(record), sourceOf(r.From))
	s.journal.put(now, kindMutable, target[:], appendRecord(nil, record, r.From))
	return done(&s.counts.MutablePut, answer{verdict: verdictReply, stored: true})
}

func (s *storage) immutableGet(now time.Time, r *dhtrpc.Request) answer {
	if r.Target == nil {
		return drop(&s.counts.Malformed)
	}
	return done(&s.counts.ImmutableGet, answer{
		verdict: verdictReply,
		value:   s.read(now, kindImmutable, s.immutables, *r.Target),
	})
}

func (s *storage) immutablePut(now time.Time, r *dhtrpc.Request) answer {
	if r.Target == nil || r.Token == nil || r.Value == nil {
		return drop(&s.counts.Malformed)
	}
	if len(r.Value) > MaxStoredValue {
		return drop(&s.counts.TooLarge)
	}
	target := Target(*r.Target)
	if hash(r.Value) != target {
		return drop(&s.counts.BadTarget)
	}
	value := append(make([]byte, 0, len(r.Value)), r.Value...)
	s.immutables.PutSized(now, target, value, len(value), sourceOf(r.From))
	s.journal.put(now, kindImmutable, target[:], appendRecord(nil, value, r.From))
	return done(&s.counts.ImmutablePut, answer{verdict: verdictReply, stored: true})
}

// read returns a record, nil if there is none, and renews it now and then: a
// record that is asked for does not expire.
func (s *storage) read(now time.Time, kind string, records *keep.Map[Target, []byte, source], target Target) []byte {
	value, stamp, ok := records.Get(now, target)
	if !ok {
		return nil
	}
	if age := s.limits.RecordAge; age > 0 && now.Sub(stamp) > part(age, renewPart) {
		records.Renew(now, target)
		s.journal.renew(now, kind, target[:])
	}
	return value
}

// seqOf is the sequence number of a stored mutable record.
func seqOf(record []byte) uint64 {
	seq, err := parseMutableGet(record)
	if err != nil {
		panic("BUG: hyperdht: stored record does not parse")
	}
	return seq
}
