package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"go.etcd.io/bbolt"

	"github.com/warren-dht/warren/internal/keep"
)

const (
	// fillPercent is how full pages are when they are split. New rows come last,
	// so full pages stay as they are.
	fillPercent = 1.0
	// allocSize is by how much the file grows at a time, in bytes.
	allocSize = 4 << 20
)

// removed stands for a row that a batch removes.
const removed = ^uint64(0)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A row is an entry as it lies in the file.
type row struct {
	number uint64
	sum    uint32
	stamp  time.Time
	kind   string
	key    []byte
	value  []byte
}

func rowKey(number uint64) (k [8]byte) {
	binary.BigEndian.PutUint64(k[:], number)
	return k
}

func (r row) append(b []byte) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.stamp.UnixNano()))
	b = append(append(b, byte(len(r.kind))), r.kind...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(r.key)))
	b = append(append(b, r.key...), r.value...)
	key := rowKey(r.number)
	binary.LittleEndian.PutUint32(b[start:], checksum(key[:], b[start+4:]))
	return b
}

func checksum(key, body []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, key), castagnoli, body)
}

// parseRow reads a row; it borrows key and value.
func parseRow(key, b []byte) (r row, err error) {
	const fixed = 4 + 8 + 1
	bad := func(what string) (row, error) {
		return row{}, fmt.Errorf("%w: row %x: %s", ErrDamaged, key, what)
	}
	if len(key) != 8 || len(b) < fixed {
		return bad("too short")
	}
	r.number = binary.BigEndian.Uint64(key)
	r.sum = binary.LittleEndian.Uint32(b)
	if checksum(key, b[4:]) != r.sum {
		return bad("checksum does not match")
	}
	r.stamp = time.Unix(0, int64(binary.LittleEndian.Uint64(b[4:])))
	n := int(b[12])
	if b = b[fixed:]; len(b) < n+2 {
		return bad("too short")
	}
	r.kind = string(b[:n])
	keyLen := int(binary.LittleEndian.Uint16(b[n:]))
	if b = b[n+2:]; len(b) < keyLen || r.number == removed {
		return bad("too short")
	}
	r.key, r.value = b[:keyLen], b[keyLen:]
	return r, nil
}

// A state is what all rows together must come to.
type state struct {
	rows uint64
	sum  uint64 // of their checksums
}

func (s *state) add(sum uint32)    { s.rows, s.sum = s.rows+1, s.sum+uint64(sum) }
func (s *state) remove(sum uint32) { s.rows, s.sum = s.rows-1, s.sum-uint64(sum) }

func (s state) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, s.rows)
	return binary.LittleEndian.AppendUint64(b, s.sum)
}

func parseState(b []byte) (s state, err error) {
	if len(b) != 16 {
		return s, fmt.Errorf("%w: no state", ErrDamaged)
	}
	return state{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}, nil
}

// A batch is a transaction being made. What it changes of the index is kept
// apart until the transaction has succeeded.
type batch struct {
	db    *DB
	rows  *bbolt.Bucket
	state state
	next  uint64
	fresh map[entryID]uint64
	buf   []byte // bbolt keeps what it is given until the transaction ends
}

func (b *batch) apply(c *keep.Change) error {
	if len(c.Kind) > 255 || len(c.Key) > 65535 {
		return ErrTooLarge
	}
	id := idOf(c.Kind, c.Key)
	number, ok := b.fresh[id]
	if !ok {
		number, ok = b.db.rows[id]
	}
	ok = ok && number != removed
	r := row{number: number, stamp: c.Stamp, kind: c.Kind, key: c.Key, value: c.Value}
	if ok {
		key := rowKey(number)
		old, err := parseRow(key[:], b.rows.Get(key[:]))
		if err != nil {
			return err
		}
		b.state.remove(old.sum)
		r.value = pick(c.Op == keep.OpRenew, old.value, c.Value)
	}
	switch {
	case c.Op == keep.OpRemove && ok:
		b.fresh[id] = removed
		key := rowKey(number)
		return b.rows.Delete(key[:])
	case c.Op == keep.OpPut && !ok:
		r.number = b.next
		b.next++
		b.fresh[id] = r.number
	case !ok:
		return nil // nothing to renew or to remove
	}
	return b.put(r)
}

func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

func (b *batch) put(r row) error {
	key := rowKey(r.number)
	size := 4 + 8 + 1 + len(r.kind) + 2 + len(r.key) + len(r.value)
	if cap(b.buf)-len(b.buf) < size {
		b.buf = make([]byte, 0, max(size, 64<<10))
	}
	start := len(b.buf)
	b.buf = r.append(b.buf)
	value := b.buf[start:len(b.buf):len(b.buf)]
	b.state.add(checksum(key[:], value[4:]))
	return b.rows.Put(key[:], value)
}
