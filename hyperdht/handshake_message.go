package hyperdht

import (
	"net/netip"

	"github.com/warren-dht/warren/compact"
)

// A mode says on which leg of its way a forwarded message is:
//
//	client --FROM_CLIENT--> relay --FROM_RELAY--> server
//	client <----REPLY------ relay <-FROM_SERVER-- server
//
// The legs share one transaction id and nothing is kept on the way, so each
// message carries the address that the next leg needs.
type mode uint64

const (
	fromClient      mode = 0
	fromServer      mode = 1
	fromRelay       mode = 2
	fromSecondRelay mode = 3
	reply           mode = 4
)

// A handshakeMessage is the value of PEER_HANDSHAKE (spec §3.2).
//
//	flags uint | mode uint | noise buffer | [peer ipv4] | [relay ipv4]
type handshakeMessage struct {
	mode  mode
	noise []byte
	// peer is, on the way to the server, the client as the relay sees it; on the
	// way back, the server as the relay sees it. Invalid: absent.
	peer netip.AddrPort
	// relay is the relay to answer through, or to go through. Invalid: absent.
	relay netip.AddrPort
}

const (
	flagPeerAddress  = 1
	flagRelayAddress = 2
)

func (m *handshakeMessage) append(b []byte) []byte {
	var flags uint64
	if m.peer.IsValid() {
		flags |= flagPeerAddress
	}
	if m.relay.IsValid() {
		flags |= flagRelayAddress
	}
	b = compact.AppendUint(b, flags)
	b = compact.AppendUint(b, uint64(m.mode))
	b = compact.AppendBuffer(b, m.noise)
	if m.peer.IsValid() {
		b = compact.AppendAddr(b, m.peer)
	}
	if m.relay.IsValid() {
		b = compact.AppendAddr(b, m.relay)
	}
	return b
}

// parseHandshakeMessage reads a handshakeMessage; noise aliases b. Unknown
// flags and trailing bytes are ignored, as newer peers may add some.
func parseHandshakeMessage(b []byte) (m handshakeMessage, err error) {
	r := compact.NewReader(b)
	flags := r.Uint()
	m.mode = mode(r.Uint())
	m.noise = r.Buffer()
	if flags&flagPeerAddress != 0 {
		m.peer = r.Addr()
	}
	if flags&flagRelayAddress != 0 {
		m.relay = r.Addr()
	}
	if r.Err() != nil {
		return handshakeMessage{}, errBadMessage
	}
	return m, nil
}

// A holepunchMessage is the value of PEER_HOLEPUNCH (spec §3.5).
//
//	flags uint | mode uint | id uint | payload buffer | [peer ipv4]
type holepunchMessage struct {
	mode    mode
	id      uint64 // the server's handle of the handshake
	payload []byte // a sealed punchPayload
	peer    netip.AddrPort
}

func (m *holepunchMessage) append(b []byte) []byte {
	var flags uint64
	if m.peer.IsValid() {
		flags |= flagPeerAddress
	}
	b = compact.AppendUint(b, flags)
	b = compact.AppendUint(b, uint64(m.mode))
	b = compact.AppendUint(b, m.id)
	b = compact.AppendBuffer(b, m.payload)
	if m.peer.IsValid() {
		b = compact.AppendAddr(b, m.peer)
	}
	return b
}

// parseHolepunchMessage reads a holepunchMessage; payload aliases b.
func parseHolepunchMessage(b []byte) (m holepunchMessage, err error) {
	r := compact.NewReader(b)
	flags := r.Uint()
	m.mode = mode(r.Uint())
	m.id = r.Uint()
	m.payload = r.Buffer()
	if flags&flagPeerAddress != 0 {
		m.peer = r.Addr()
	}
	if r.Err() != nil {
		return holepunchMessage{}, errBadMessage
	}
	return m, nil
}
