package secretstream

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/warren-dht/warren/internal/sodium"
)

// DatagramOverhead is how much longer a datagram is on the raw stream.
const DatagramOverhead = counterSize + sodium.SecretboxOverhead

const counterSize = 8

// ErrDatagramsSpent means that 2^64 datagrams were sent.
var ErrDatagramsSpent = errors.New("secretstream: no more datagrams can be sent on this connection")

// DatagramKeys chooses where the keys of datagrams come from.
type DatagramKeys uint8

const (
	// DatagramsRefused: Send and Receive fail with ErrInsecureDatagrams.
	DatagramsRefused DatagramKeys = iota
	// DatagramsSecret derives the keys from the handshake's secret, which only
	// the two ends know. The peer must do the same: the reference cannot.
	DatagramsSecret
	// DatagramsInsecure derives the keys from the handshake's hash, as the
	// reference does. An observer of the handshake's two messages knows them:
	// such are the DHT nodes that forward it and a blind relay. Observers can
	// read the datagrams that they see, and forge others.
	DatagramsInsecure
)

// A datagrammer is a raw stream that carries datagrams as well, unordered and
// unreliable: a *udx.Stream. SendMessage does not keep p. ReadMessage waits for a
// datagram and returns its size; what does not fit into p is lost.
type datagrammer interface {
	SendMessage(p []byte) error
	ReadMessage(p []byte) (n int, err error)
}

// datagrams is the state of the encrypted datagrams, made when the first one is
// sent or awaited (docs/spec/secret-stream.md §11):
//
//	| counter 8 | secretbox of the plaintext: MAC 16 | ciphertext |
//
// The nonce is the counter and zeros. The counter starts anywhere.
type datagrams struct {
	sendKey, receiveKey [32]byte

	mu      sync.Mutex
	counter uint64 // of the last one sent
	first   uint64 // of none sent: where the counter must not return to
}

// unordered returns the state of the datagrams, or an error if they are refused.
func (c *Conn) unordered() (*datagrams, error) {
	if d := c.datagrams.Load(); d != nil {
		return d, nil
	}
	if c.keys == DatagramsRefused {
		return nil, ErrInsecureDatagrams
	}
	var first [counterSize]byte
	rand.Read(first[:]) // never fails
	c.datagrams.CompareAndSwap(nil, c.newDatagrams(binary.LittleEndian.Uint64(first[:])))
	return c.datagrams.Load(), nil
}

func (c *Conn) newDatagrams(first uint64) *datagrams {
	d := &datagrams{counter: first, first: first}
	if c.keys == DatagramsSecret {
		d.sendKey = sodium.KeyedSum256(c.secret[:], nsSecretInitiator[:])
		d.receiveKey = sodium.KeyedSum256(c.secret[:], nsSecretResponder[:])
	} else {
		d.sendKey = sodium.KeyedSum256(c.hash[:], nsInitiator[:], nsSend[:])
		d.receiveKey = sodium.KeyedSum256(c.hash[:], nsResponder[:], nsSend[:])
	}
	if !c.initiator {
		d.sendKey, d.receiveKey = d.receiveKey, d.sendKey
	}
	return d
}

// seal appends the datagram with plaintext p to b.
func (d *datagrams) seal(b, p []byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.counter+1 == d.first {
		return nil, ErrDatagramsSpent
	}
	d.counter++
	var nonce [24]byte
	binary.LittleEndian.PutUint64(nonce[:], d.counter)
	b = append(b, nonce[:counterSize]...)
	return sodium.SealSecretbox(b, p, &nonce, &d.sendKey), nil
}

// open appends the plaintext of a datagram to b.
func (d *datagrams) open(b, datagram []byte) ([]byte, bool) {
	if len(datagram) < DatagramOverhead {
		return nil, false
	}
	var nonce [24]byte
	copy(nonce[:], datagram[:counterSize])
	return sodium.OpenSecretbox(b, datagram[counterSize:], &nonce, &d.receiveKey)
}

// Send sends p, which may be empty, as a datagram: it may get lost, overtake
// others and the stream, or arrive twice. It fails with ErrNoDatagrams if the
// raw stream is not one for datagrams, and with ErrInsecureDatagrams if there are
// no keys for them; see [DatagramKeys], also for what the insecure form gives
// away. The raw stream's largest datagram minus DatagramOverhead is the largest p.
func (c *Conn) Send(p []byte) error {
	raw, ok := c.raw.(datagrammer)
	if !ok {
		return ErrNoDatagrams
	}
	d, err := c.unordered()
	if err != nil {
		return err
	}
	buf := borrow(len(p) + DatagramOverhead)
	defer buf.giveBack()
	b, err := d.seal(buf.b[:0], p)
	if err != nil {
		return err
	}
	return raw.SendMessage(b)
}

// Receive waits for a datagram of the peer and copies it to p; what does not
// fit is lost. Anything that the peer did not seal is skipped. There is no
// protection against replays. It heeds the read deadline if the raw stream's
// datagrams do, and fails as Send does if there are no datagrams or no keys.
func (c *Conn) Receive(p []byte) (n int, err error) {
	raw, ok := c.raw.(datagrammer)
	if !ok {
		return 0, ErrNoDatagrams
	}
	d, err := c.unordered()
	if err != nil {
		return 0, err
	}
	buf := borrow(len(p) + DatagramOverhead)
	defer buf.giveBack()
	for {
		n, err := raw.ReadMessage(buf.b)
		if err != nil {
			return 0, err
		}
		if plain, ok := d.open(nil, buf.b[:n]); ok {
			return copy(p, plain), nil
		}
	}
}
