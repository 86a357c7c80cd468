package sodium

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"
	//lint:ignore SA1019 secretstream pads in a way of its own, which the AEAD cannot compute
	"golang.org/x/crypto/poly1305"
)

// Sizes of crypto_secretstream_xchacha20poly1305, in bytes.
const (
	StreamKeySize    = 32
	StreamHeaderSize = 24
	StreamOverhead   = 1 + macSize // tag byte and MAC
	macSize          = poly1305.TagSize
)

// Tags of secretstream messages. HyperDHT's peers send only TagMessage; they
// obey the rekeying of TagRekey and TagFinal and ignore the rest.
const (
	TagMessage = 0
	TagPush    = 1
	TagRekey   = 2
	TagFinal   = TagPush | TagRekey
)

// Headroom is the number of bytes before a message that SealInPlace and
// OpenInPlace borrow while they work. They are put back.
//
// The MAC of a message covers its encrypted tag as a block of 64 bytes, of
// which only the first is sent. Spelled out, tag ‖ 63 zero bytes ‖ message is
// a plaintext of plain ChaCha20-Poly1305 whose ciphertext is the one wanted,
// and the assembly of that AEAD is three times faster than ChaCha20 alone. The
// other 63 bytes have to stand somewhere.
const Headroom = blockSize - 1

const blockSize = 64

// streamState is one direction of a secretstream, libsodium's state: the
// subkey, and the nonce made of a counter and an inner nonce.
type streamState struct {
	aead  cipher.AEAD // of key; a new one after each rekeying
	key   [32]byte
	nonce [chacha20.NonceSize]byte // u32 LE counter ‖ 8 bytes inner nonce
}

func newStreamState(key *[StreamKeySize]byte, header *[StreamHeaderSize]byte) streamState {
	sub, err := chacha20.HChaCha20(key[:], header[:16])
	if err != nil {
		panic("BUG: sodium: " + err.Error())
	}
	var s streamState
	copy(s.nonce[4:], header[16:])
	s.setKey((*[32]byte)(sub))
	return s
}

// setKey installs a subkey; the counter starts at 1 with it.
func (s *streamState) setKey(key *[32]byte) {
	s.key = *key
	aead, err := chacha20poly1305.New(s.key[:])
	if err != nil {
		panic("BUG: sodium: " + err.Error())
	}
	s.aead = aead
	binary.LittleEndian.PutUint32(s.nonce[:4], 1)
}

// block returns 64 bytes of the current message's key stream: block 0 keys
// Poly1305, block 1 encrypts the tag, the message starts with block 2.
func (s *streamState) block(number uint32) (out [blockSize]byte) {
	c, err := chacha20.NewUnauthenticatedCipher(s.key[:], s.nonce[:])
	if err != nil {
		panic("BUG: sodium: " + err.Error())
	}
	c.SetCounter(number)
	c.XORKeyStream(out[:], out[:])
	return out
}

// aeadMAC says whether the MAC of a message of n bytes is that of the AEAD.
// Secretstream pads the ciphertext with n mod 16 zero bytes where the standard
// pads up to a multiple of 16: the same for 0 and 8 modulo 16.
func aeadMAC(n int) bool { return n%8 == 0 }

// mac computes the MAC over block, the 64 bytes of encrypted tag with the
// ciphertext behind them.
func (s *streamState) mac(blocks []byte) (mac [macSize]byte) {
	polyKey := s.block(0)
	h := poly1305.New((*[32]byte)(polyKey[:32]))
	h.Write(blocks)
	var tail [15 + 16]byte // zeros ‖ u64 length of associated data ‖ u64 length
	pad := len(blocks) % 16
	binary.LittleEndian.PutUint64(tail[pad+8:], uint64(len(blocks)))
	h.Write(tail[:pad+16])
	h.Sum(mac[:0])
	return mac
}

// advance moves the state behind a message with this MAC and tag.
func (s *streamState) advance(mac []byte, tag byte) {
	subtle.XORBytes(s.nonce[4:], s.nonce[4:], mac[:8])
	counter := binary.LittleEndian.Uint32(s.nonce[:4]) + 1
	binary.LittleEndian.PutUint32(s.nonce[:4], counter)
	if tag&TagRekey != 0 || counter == 0 {
		s.rekey()
	}
}

func (s *streamState) rekey() {
	var x [40]byte
	copy(x[:32], s.key[:])
	copy(x[32:], s.nonce[4:])
	stream := s.block(0)
	subtle.XORBytes(x[:], x[:], stream[:40])
	copy(s.nonce[4:], x[32:])
	s.setKey((*[32]byte)(x[:32]))
}

// A Push seals the messages of one direction. It is a value: a copy seals from
// the same point, so a copy taken before a message undoes it. Not safe for
// concurrent use.
type Push struct{ streamState }

// NewPush returns the sealing end for a key and a header, which the sender
// draws at random and sends first.
func NewPush(key *[StreamKeySize]byte, header *[StreamHeaderSize]byte) Push {
	return Push{newStreamState(key, header)}
}

// SealInPlace seals the message of n bytes at b[off+1:] where it stands;
// afterwards b[off:off+n+StreamOverhead] is the sealed message. The caller
// provides Headroom bytes before off; they are unchanged in the end.
func (s *Push) SealInPlace(b []byte, off, n int, tag byte) {
	var saved [Headroom]byte
	start := off - Headroom // of the block that holds the tag
	copy(saved[:], b[start:off])

	b[start] = tag
	clear(b[start+1 : off+1])
	sealed := s.aead.Seal(b[start:start], s.nonce[:], b[start:off+1+n], nil)
	mac := sealed[blockSize+n:]
	if !aeadMAC(n) {
		*(*[macSize]byte)(mac) = s.mac(sealed[:blockSize+n])
	}
	b[off] = b[start]
	copy(b[start:off], saved[:])
	s.advance(mac, tag)
}

// Skip moves past a message that was sealed from this very state: it turns an
// older copy into the state behind the sealed message.
func (s *Push) Skip(sealed []byte, tag byte) {
	s.advance(sealed[len(sealed)-macSize:], tag)
}

// A Pull opens the messages of one direction, in the order in which they were
// sealed. A value, not safe for concurrent use.
type Pull struct{ streamState }

// NewPull returns the opening end for a key and the header that the sender of
// this direction sent.
func NewPull(key *[StreamKeySize]byte, header *[StreamHeaderSize]byte) Pull {
	return Pull{newStreamState(key, header)}
}

// OpenInPlace opens the sealed message b[off:off+n] where it stands and returns
// its tag; afterwards the message is b[off+1:off+n-macSize], which is
// b[off+1:][:n-StreamOverhead]. The caller provides Headroom bytes before off;
// they are unchanged in the end.
//
// It returns false when the message is too short or not authentic, which
// includes any that was lost, repeated or moved. The state is then as before,
// and the bytes of the message are undefined.
func (s *Pull) OpenInPlace(b []byte, off, n int) (tag byte, ok bool) {
	n -= StreamOverhead // of the message itself
	if n < 0 {
		return 0, false
	}
	var saved [Headroom]byte
	start := off - Headroom
	copy(saved[:], b[start:off])

	block := s.block(1)
	b[start] = b[off]
	copy(b[start+1:off+1], block[1:])
	sealed := b[start : start+blockSize+n+macSize]
	var mac [macSize]byte
	copy(mac[:], sealed[blockSize+n:])
	if aeadMAC(n) {
		_, err := s.aead.Open(sealed[:0], s.nonce[:], sealed, nil)
		ok = err == nil
	} else {
		want := s.mac(sealed[:blockSize+n])
		if ok = subtle.ConstantTimeCompare(want[:], mac[:]) == 1; ok {
			// Encrypting once more decrypts; the AEAD's MAC is not ours
			// and lands where ours was.
			s.aead.Seal(sealed[:0], s.nonce[:], sealed[:blockSize+n], nil)
		}
	}
	tag = b[start]
	copy(b[start:off], saved[:])
	if !ok {
		return 0, false
	}
	s.advance(mac[:], tag)
	return tag, true
}
