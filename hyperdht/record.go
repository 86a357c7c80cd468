package hyperdht

import (
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/internal/sodium"
)

// The sizes of values that every reader can receive, in bytes: with them the
// datagrams of put and get stay below 1,200 bytes whatever else they carry. No
// limit is part of the protocol; see [PutOptions.MaxValue].
// docs/spec/hyperdht-records.md §15.
const (
	MaxImmutableValue = 1000
	MaxMutableValue   = 920
)

// MaxSeq is the largest sequence number of a mutable record, 2^53-1.
const MaxSeq = compact.MaxUint

// Errors of records.
var (
	// ErrNotFound means that no node returned a valid record.
	ErrNotFound = errors.New("hyperdht: not found")
	// ErrValueTooLarge means that a value might not reach every reader.
	ErrValueTooLarge = errors.New("hyperdht: value too large")
	// ErrSeqRange means that a sequence number is above [MaxSeq].
	ErrSeqRange = errors.New("hyperdht: sequence number above 2^53-1")
	// ErrNotEd25519 means that a signer's public key is not an Ed25519 key that
	// others accept.
	ErrNotEd25519 = errors.New("hyperdht: signer has no usable Ed25519 key")
)

// A Peer is somebody who announced a topic or his own key. Nothing about it is
// proven: a node may name any key. The handshake with the peer proves it.
type Peer struct {
	PublicKey PublicKey
	// Relays are nodes that forward to the peer, at most what it announced;
	// nodes keep three.
	Relays []netip.AddrPort
}

// A MutableRecord is a value that its owner can replace, stored under the hash
// of the owner's public key. Its signature holds for the value and the
// sequence number, whoever stores it: a record that one holds can be put again
// without the key.
type MutableRecord struct {
	PublicKey PublicKey
	Seq       uint64 // 0 to MaxSeq; a higher one replaces a lower one
	Value     []byte
	Signature [64]byte
}

// SignMutable makes a mutable record. The signer's key must be an Ed25519 key;
// it may live anywhere.
func SignMutable(signer crypto.Signer, seq uint64, value []byte) (MutableRecord, error) {
	key, err := publicKeyOf(signer)
	if err != nil {
		return MutableRecord{}, err
	}
	if seq > MaxSeq {
		return MutableRecord{}, fmt.Errorf("%w: %d", ErrSeqRange, seq)
	}
	r := MutableRecord{PublicKey: key, Seq: seq, Value: value}
	message := r.wire().signable()
	r.Signature, err = sign(signer, message[:])
	return r, err
}

// Verify returns nil if the signature is the key's, else [ErrBadSignature].
func (r MutableRecord) Verify() error {
	if r.Seq > MaxSeq {
		return ErrSeqRange
	}
	if !r.wire().verify((*[32]byte)(&r.PublicKey)) {
		return ErrBadSignature
	}
	return nil
}

// Target is where the record is stored: the hash of its public key.
func (r MutableRecord) Target() Target { return TargetOf(r.PublicKey) }

func (r MutableRecord) wire() mutableRecord {
	return mutableRecord{seq: r.Seq, value: r.Value, signature: r.Signature}
}

// Hash is the BLAKE2b-256 hash of a value: where an immutable record is stored,
// and how a topic is made from a name.
func Hash(value []byte) Target { return hash(value) }

// SignerOf is a key pair as a signer, for the calls that sign.
func SignerOf(k KeyPair) crypto.Signer { return ed25519.PrivateKey(k.Secret[:]) }

// publicKeyOf returns a signer's public key if others will accept it.
func publicKeyOf(signer crypto.Signer) (PublicKey, error) {
	pub, ok := signer.Public().(ed25519.PublicKey)
	if !ok || len(pub) != KeySize || !sodium.UsablePoint((*[32]byte)(pub)) {
		return PublicKey{}, ErrNotEd25519
	}
	return PublicKey(pub), nil
}
