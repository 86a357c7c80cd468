package hyperdht

import (
	"golang.org/x/crypto/blake2b"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/internal/sodium"
)

// The messages about records, in compact-encoding.
// docs/spec/hyperdht-records.md §3.
//
//	mutable put:     public key (32) | seq | buffer value | signature (64)
//	mutable record:  seq | buffer value | signature (64)      reply of a get, and as stored
//	mutable get:     seq                                      the lowest one wanted
//	signed:          namespace (32) | H(seq | buffer value)
//	plugin request:  string plugin | version | command | flags | [1: buffer value]
//
// The value of an immutable put is the record itself.

// mutableTail is what stands behind the value of a mutable record.
const mutableTail = 64

// A mutableRecord is a signed value with its sequence number. When parsed its
// value is borrowed.
type mutableRecord struct {
	seq       uint64
	value     []byte
	signature [64]byte
}

func readMutableRecord(r *compact.Reader) (m mutableRecord) {
	m.seq = r.Uint()
	m.value = r.Buffer()
	if sig := r.Fixed64(); sig != nil {
		m.signature = *sig
	}
	return m
}

func parseMutableRecord(b []byte) (mutableRecord, error) {
	r := compact.NewReader(b)
	m := readMutableRecord(&r)
	return m, r.Err()
}

func (m mutableRecord) append(b []byte) []byte {
	b = compact.AppendUint(b, m.seq)
	b = compact.AppendBuffer(b, m.value)
	return append(b, m.signature[:]...)
}

func (m mutableRecord) size() int {
	return compact.SizeUint(m.seq) + compact.SizeBuffer(len(m.value)) + mutableTail
}

// signable is what the owner of the key signs.
func (m mutableRecord) signable() [64]byte {
	b := make([]byte, 0, 1280)
	b = compact.AppendUint(b, m.seq)
	b = compact.AppendBuffer(b, m.value)
	return underNamespace(&nsMutablePut, blake2b.Sum256(b))
}

func (m mutableRecord) verify(key *[32]byte) bool {
	message := m.signable()
	return sodium.VerifyDetached(key, message[:], &m.signature)
}

// A mutablePut asks a node to store a mutable record.
type mutablePut struct {
	key [32]byte
	mutableRecord
}

func parseMutablePut(b []byte) (p mutablePut, err error) {
	r := compact.NewReader(b)
	if key := r.Fixed32(); key != nil {
		p.key = *key
	}
	p.mutableRecord = readMutableRecord(&r)
	return p, r.Err()
}

func (p mutablePut) append(b []byte) []byte {
	return p.mutableRecord.append(append(b, p.key[:]...))
}

// parseMutableGet reads the lowest sequence number that a get wants.
func parseMutableGet(b []byte) (seq uint64, err error) {
	r := compact.NewReader(b)
	seq = r.Uint()
	return seq, r.Err()
}

// A pluginRequest is a command of a plugin inside command 10. When parsed its
// value is borrowed; nil means none.
type pluginRequest struct {
	plugin  string
	version uint64
	command uint64
	value   []byte
}

func parsePluginRequest(b []byte) (p pluginRequest, err error) {
	r := compact.NewReader(b)
	p.plugin = r.UTF8()
	p.version = r.Uint()
	p.command = r.Uint()
	if r.Uint()&1 != 0 {
		p.value = r.Buffer()
	}
	return p, r.Err()
}

func (p pluginRequest) append(b []byte) []byte {
	b = compact.AppendString(b, p.plugin)
	b = compact.AppendUint(b, p.version)
	b = compact.AppendUint(b, p.command)
	if p.value == nil {
		return append(b, 0)
	}
	return compact.AppendBuffer(append(b, 1), p.value)
}

func appendMutableGet(b []byte, seq uint64) []byte { return compact.AppendUint(b, seq) }
