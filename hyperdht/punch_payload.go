package hyperdht

import (
	"crypto/rand"
	"net/netip"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/internal/sodium"
	"github.com/warren-dht/warren/nat"
	"github.com/warren-dht/warren/noise"
)

// A punchPayload is what the two ends of a punch tell each other, sealed with a
// key that only they know (spec §3.7).
//
//	flags uint | error uint | firewall uint | round uint |
//	  [addresses array ipv4] | [remoteAddress ipv4] | [token 32] | [remoteToken 32]
type punchPayload struct {
	err       wireError
	firewall  nat.Class // of the sender's puncher socket
	round     uint64    // at most maxRound
	connected bool
	punching  bool
	addresses []netip.AddrPort // of the sender's puncher socket; nil: absent
	// remote is the receiver's address towards which the sender has just
	// opened its NAT. Invalid: absent.
	remote netip.AddrPort
	// token is to be echoed through another path; remoteToken is the echo.
	token, remoteToken *[32]byte
}

// maxRound is the largest round that the reference can write.
const maxRound = 252

const (
	punchConnected     = 1
	punchPunching      = 2
	punchAddresses     = 4
	punchRemoteAddress = 8
	punchToken         = 16
	punchRemoteToken   = 32
)

func (p *punchPayload) append(b []byte) []byte {
	var flags uint64
	set := func(flag uint64, on bool) {
		if on {
			flags |= flag
		}
	}
	set(punchConnected, p.connected)
	set(punchPunching, p.punching)
	set(punchAddresses, p.addresses != nil)
	set(punchRemoteAddress, p.remote.IsValid())
	set(punchToken, p.token != nil)
	set(punchRemoteToken, p.remoteToken != nil)
	b = compact.AppendUint(b, flags)
	b = compact.AppendUint(b, uint64(p.err))
	b = compact.AppendUint(b, uint64(p.firewall))
	b = compact.AppendUint(b, p.round)
	if p.addresses != nil {
		b = compact.AppendAddrs(b, p.addresses)
	}
	if p.remote.IsValid() {
		b = compact.AppendAddr(b, p.remote)
	}
	if p.token != nil {
		b = append(b, p.token[:]...)
	}
	if p.remoteToken != nil {
		b = append(b, p.remoteToken[:]...)
	}
	return b
}

// parsePunchPayload reads a punchPayload; it aliases nothing.
func parsePunchPayload(b []byte) (p punchPayload, err error) {
	r := compact.NewReader(b)
	flags := r.Uint()
	p.err = wireError(r.Uint())
	p.firewall = classFromWire(r.Uint())
	p.round = r.Uint()
	p.connected = flags&punchConnected != 0
	p.punching = flags&punchPunching != 0
	if flags&punchAddresses != 0 {
		p.addresses = readAddrs(&r, maxPayloadAddrs)
	}
	if flags&punchRemoteAddress != 0 {
		p.remote = r.Addr()
	}
	if flags&punchToken != 0 {
		p.token = copy32(r.Fixed32())
	}
	if flags&punchRemoteToken != 0 {
		p.remoteToken = copy32(r.Fixed32())
	}
	if r.Err() != nil {
		return punchPayload{}, errBadMessage
	}
	return p, nil
}

func copy32(b *[32]byte) *[32]byte {
	if b == nil {
		return nil
	}
	c := *b
	return &c
}

// A punchSeal encrypts the punch payloads of one handshake (spec §3.6). Both
// directions use the same key, each message a random nonce in front. The
// reference's key comes from the handshake's hash: the nodes that forward the
// handshake know it, and can read and write what they forward. Two peers that
// prove themselves take the handshake's secret instead.
type punchSeal struct {
	key         [32]byte // both ends have it
	localSecret [32]byte // ours alone; makes the tokens
}

const nonceSize = 24

func newPunchSeal(res *noise.Result, proves bool) *punchSeal {
	s := &punchSeal{key: sodium.KeyedSum256(res.Hash[:], nsPeerHolepunch[:])}
	if proves {
		s.key = sodium.KeyedSum256(res.Secret[:], nsPeerHolepunch[:])
	}
	rand.Read(s.localSecret[:])
	return s
}

func (s *punchSeal) seal(p *punchPayload) []byte {
	var nonce [nonceSize]byte
	rand.Read(nonce[:])
	return s.sealWith(nonce, p)
}

func (s *punchSeal) sealWith(nonce [nonceSize]byte, p *punchPayload) []byte {
	return sodium.SealSecretbox(nonce[:], p.append(nil), &nonce, &s.key)
}

// open reads a sealed payload; ok is false unless it was sealed with our key
// and decodes.
func (s *punchSeal) open(b []byte) (p punchPayload, ok bool) {
	if len(b) <= nonceSize+sodium.SecretboxOverhead {
		return p, false
	}
	plain, ok := sodium.OpenSecretbox(nil, b[nonceSize:], (*[nonceSize]byte)(b), &s.key)
	if !ok {
		return p, false
	}
	p, err := parsePunchPayload(plain)
	return p, err == nil
}

// token proves, when it comes back by another path, that somebody can receive
// at the host. The port is not part of it.
func (s *punchSeal) token(host netip.Addr) *[32]byte {
	t := sodium.KeyedSum256(s.localSecret[:], []byte(host.String()))
	return &t
}
