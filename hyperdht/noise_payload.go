package hyperdht

import (
	"net/netip"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/nat"
)

// wireError is the error field of handshake and punch payloads.
type wireError uint64

const (
	wireOK              wireError = 0
	wireAborted         wireError = 1
	wireVersionMismatch wireError = 2
	wireTryLater        wireError = 3
)

// payloadVersion is the version of the noise payload that everybody speaks.
const payloadVersion = 1

// Bounds on the lists of a payload. The reference sends at most three relays
// and one address an interface; it accepts what fits a datagram.
const (
	maxPayloadAddrs  = 16
	maxPayloadRelays = 8
)

// A noisePayload is what the two ends tell each other inside the Noise
// messages (spec §3.4).
//
//	version uint | flags uint | error uint | firewall uint | then by flag:
//	  1 holepunch: id uint, array of (relay ipv4, peer ipv4)
//	  2 addresses4: array ipv4          4 addresses6: array ipv6
//	  8 udx: version, features, id, seq uint
//	 16 secretStream: version uint
//	 32 relayThrough: version, flags uint, publicKey, token fixed32
//	 64 relayAddresses: array ipv4
type noisePayload struct {
	version    uint64
	err        wireError
	firewall   nat.Class
	holepunch  *holepunchInfo
	addresses4 []netip.AddrPort
	addresses6 []netip.AddrPort
	udx        *udxInfo
	// secretStream is the version of the stream's framing; 0 if not named.
	secretStream   uint64
	relayThrough   *relayThroughInfo
	relayAddresses []netip.AddrPort // nil: absent
}

// holepunchInfo is how a server that is not open can be punched to.
type holepunchInfo struct {
	id     uint64
	relays []relayInfo
}

// relayInfo is a node that holds the server's announcement, and the server's
// address as that node sees it.
type relayInfo struct {
	relay, peer netip.AddrPort
}

type udxInfo struct {
	reusable bool // the socket may be used again for the next connection
	// keepsRelay says that the sender keeps a relay to fall back to after it
	// has moved to a direct path. A bit of ours, which the reference ignores.
	keepsRelay bool
	// follows says that a server's connections follow a client to the path of
	// another handshake, pathOnly that the client makes this one for nothing
	// else. Bits of ours, too.
	follows, pathOnly bool
	// proves says that the sender's first message follows its header at once, that
	// its datagrams and punch messages are sealed with the session's secret, and
	// that it answers path challenges. A bit of ours.
	proves bool
	id     uint32
	seq    uint32
}

type relayThroughInfo struct {
	publicKey PublicKey
	token     [32]byte
}

const (
	payloadHolepunch      = 1
	payloadAddresses4     = 2
	payloadAddresses6     = 4
	payloadUDX            = 8
	payloadSecretStream   = 16
	payloadRelayThrough   = 32
	payloadRelayAddresses = 64

	udxReusableSocket = 1
	udxKeepsRelay     = 2
	udxFollows        = 4
	udxPathOnly       = 8
	udxProves         = 16
)

func (p *noisePayload) append(b []byte) []byte {
	b = compact.AppendUint(b, p.version)
	var flags uint64
	set := func(flag uint64, on bool) {
		if on {
			flags |= flag
		}
	}
	set(payloadHolepunch, p.holepunch != nil)
	set(payloadAddresses4, len(p.addresses4) > 0)
	set(payloadAddresses6, len(p.addresses6) > 0)
	set(payloadUDX, p.udx != nil)
	set(payloadSecretStream, p.secretStream != 0)
	set(payloadRelayThrough, p.relayThrough != nil)
	set(payloadRelayAddresses, p.relayAddresses != nil)
	b = compact.AppendUint(b, flags)
	b = compact.AppendUint(b, uint64(p.err))
	b = compact.AppendUint(b, uint64(p.firewall))
	if h := p.holepunch; h != nil {
		b = compact.AppendUint(b, h.id)
		b = compact.AppendUint(b, uint64(len(h.relays)))
		for _, r := range h.relays {
			b = compact.AppendAddr(b, r.relay)
			b = compact.AppendAddr(b, r.peer)
		}
	}
	if len(p.addresses4) > 0 {
		b = compact.AppendAddrs(b, p.addresses4)
	}
	if len(p.addresses6) > 0 {
		b = compact.AppendAddrs6(b, p.addresses6)
	}
	if u := p.udx; u != nil {
		var features uint64
		if u.reusable {
			features |= udxReusableSocket
		}
		if u.keepsRelay {
			features |= udxKeepsRelay
		}
		if u.follows {
			features |= udxFollows
		}
		if u.pathOnly {
			features |= udxPathOnly
		}
		if u.proves {
			features |= udxProves
		}
		b = compact.AppendUint(b, 1)
		b = compact.AppendUint(b, features)
		b = compact.AppendUint(b, uint64(u.id))
		b = compact.AppendUint(b, uint64(u.seq))
	}
	if p.secretStream != 0 {
		b = compact.AppendUint(b, p.secretStream)
	}
	if t := p.relayThrough; t != nil {
		b = compact.AppendUint(b, 1)
		b = compact.AppendUint(b, 0)
		b = append(b, t.publicKey[:]...)
		b = append(b, t.token[:]...)
	}
	if p.relayAddresses != nil {
		b = compact.AppendAddrs(b, p.relayAddresses)
	}
	return b
}

// parseNoisePayload reads a noisePayload; it aliases nothing. A version other
// than 1 ends the payload behind its number. Lists are cut to what we use.
func parseNoisePayload(b []byte) (p noisePayload, err error) {
	r := compact.NewReader(b)
	p.version = r.Uint()
	if r.Err() != nil {
		return noisePayload{}, errBadMessage
	}
	if p.version != payloadVersion {
		return noisePayload{version: p.version}, nil
	}
	flags := r.Uint()
	p.err = wireError(r.Uint())
	p.firewall = classFromWire(r.Uint())
	if flags&payloadHolepunch != 0 {
		h := &holepunchInfo{id: r.Uint()}
		for i := range r.Count(2 * compact.AddrSize) {
			x := relayInfo{relay: r.Addr(), peer: r.Addr()}
			if i < maxPayloadRelays {
				h.relays = append(h.relays, x)
			}
		}
		p.holepunch = h
	}
	if flags&payloadAddresses4 != 0 {
		p.addresses4 = readAddrs(&r, maxPayloadAddrs)
	}
	if flags&payloadAddresses6 != 0 {
		for i := range r.Count(compact.Addr6Size) {
			if a := r.Addr6(); i < maxPayloadAddrs {
				p.addresses6 = append(p.addresses6, a)
			}
		}
	}
	if flags&payloadUDX != 0 {
		r.Uint() // version: not checked, as in the reference
		features := r.Uint()
		p.udx = &udxInfo{
			reusable:   features&udxReusableSocket != 0,
			keepsRelay: features&udxKeepsRelay != 0,
			follows:    features&udxFollows != 0,
			pathOnly:   features&udxPathOnly != 0,
			proves:     features&udxProves != 0,
			id:         uint32(r.Uint()),
			seq:        uint32(r.Uint()),
		}
	}
	if flags&payloadSecretStream != 0 {
		p.secretStream = r.Uint()
	}
	if flags&payloadRelayThrough != 0 {
		r.Uint() // version
		r.Uint() // flags
		key, token := r.Fixed32(), r.Fixed32()
		if r.Err() == nil {
			p.relayThrough = &relayThroughInfo{publicKey: *key, token: *token}
		}
	}
	if flags&payloadRelayAddresses != 0 {
		p.relayAddresses = readAddrs(&r, maxPayloadRelays)
	}
	if r.Err() != nil {
		return noisePayload{}, errBadMessage
	}
	return p, nil
}

// readAddrs reads an array of IPv4 addresses and keeps the first n. The result
// is never nil unless the reader failed.
func readAddrs(r *compact.Reader, n int) []netip.AddrPort {
	in := r.Addrs()
	if r.Err() != nil {
		return nil
	}
	out := make([]netip.AddrPort, 0, min(n, in.Len()))
	for i := range min(n, in.Len()) {
		out = append(out, in.At(i))
	}
	return out
}

// classFromWire reads a firewall number. Numbers from 3 up are treated as the
// hardest class, as the reference does.
func classFromWire(n uint64) nat.Class {
	if n > uint64(nat.Random) {
		return nat.Random
	}
	return nat.Class(n)
}
