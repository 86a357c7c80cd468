package protomux

import (
	"bytes"
	"slices"

	"github.com/warren-dht/warren/compact"
)

// A key is what channels are joined by. No id and an empty one are the same.
type key struct{ protocol, id string }

// A pairing is what is known about one key: channels that are open, and numbers
// on either side that look for their other half, oldest first.
type pairing struct {
	key      key
	aliases  []key
	channels int      // created and not closed
	opened   int      // opened by us and not closed
	last     *Channel // opened last
	outgoing []int    // ours, index into local, which await the peer's open
	incoming []uint64 // the peer's, which await a channel
	offers   int      // listeners that have not decided
}

// A localSlot is one of our channel numbers.
type localSlot struct {
	channel  *Channel // nil: closed, or free
	awaiting *pairing // in whose outgoing it is
}

// A remoteSlot is one of the peer's channel numbers, in use.
type remoteSlot struct {
	channel *Channel // nil until one is found
	// waiting means that messages are held: until there is a channel, and
	// until those held before have been delivered.
	waiting   bool
	closed    bool // by the peer, while waiting
	handshake []byte
	name      int    // how much longer its protocol and id are than usual
	messages  []byte // held ones: type (uint), payload (buffer) of each
	count     int    // of them
	size      int    // of their payloads
}

// usualName is the size of a protocol's name and an id that are not counted as
// held.
const usualName = 64

// heldSize is the reference's measure of a held message, without its bytes.
const heldSize = 512

// hold keeps a message as it came, so that small ones cost little more than they
// did to send.
func (m *Mux) hold(s *remoteSlot, typ uint64, payload []byte) {
	s.messages = compact.AppendUint(s.messages, typ)
	s.messages = compact.AppendBuffer(s.messages, payload)
	s.count++
	s.size += len(payload)
	m.held += heldSize + len(payload)
}

// letGo undoes hold for messages that are delivered or dropped: so many of them,
// with so many bytes.
func (m *Mux) letGo(count, size int) {
	m.held -= count*heldSize + size
	m.change.Broadcast()
}

// clear empties the slot of a channel of the peer's.
func (m *Mux) clear(channel uint64) {
	s := m.remote[channel-1]
	m.remote[channel-1] = nil
	if s.channel == nil {
		m.unclaimed--
	}
	m.held -= len(s.handshake) + s.name
	m.letGo(s.count, s.size)
	s.handshake, s.name, s.messages, s.count, s.size = nil, 0, nil, 0, 0
}

// pairing returns the pairing of a key, a new one if there is none.
func (m *Mux) pairing(k key, aliases []string) *pairing {
	p := m.pairings[k]
	if p != nil {
		return p
	}
	p = &pairing{key: k}
	m.pairings[k] = p
	for _, a := range aliases {
		alias := key{a, k.id}
		if m.pairings[alias] == nil {
			p.aliases = append(p.aliases, alias)
			m.pairings[alias] = p
		}
	}
	return p
}

// forget drops a pairing that nobody needs.
func (m *Mux) forget(p *pairing) {
	if p.channels > 0 || len(p.outgoing) > 0 || len(p.incoming) > 0 || p.offers > 0 {
		return
	}
	for _, k := range append(p.aliases, p.key) {
		if m.pairings[k] == p {
			delete(m.pairings, k)
		}
	}
}

// open processes the peer's open.
func (m *Mux) open(payload []byte) error {
	o, err := parseOpen(payload)
	if err != nil {
		return violation("open: %v", err)
	}
	// The table grows by one at most.
	if o.channel == 0 || o.channel > uint64(len(m.remote))+1 || o.channel > maxChannels {
		return violation("open of channel %d", o.channel)
	}
	if m.remoteSlot(o.channel) != nil {
		return violation("open of channel %d, which is open", o.channel)
	}
	if o.channel > uint64(len(m.remote)) {
		m.remote = append(m.remote, nil)
	}
	k := key{string(o.protocol), string(o.id)}
	p := m.pairings[k]
	if p != nil && len(p.outgoing) > 0 {
		return m.join(p, o)
	}
	listener := m.listeners[k]
	if listener == nil {
		listener = m.listeners[key{k.protocol, ""}]
	}
	if listener == nil && (p == nil || p.offers == 0) || m.unclaimed >= maxUnclaimed {
		m.putControl(controlReject, o.channel)
		return nil
	}
	p = m.pairing(k, nil)
	name := max(len(o.protocol)+len(o.id)-usualName, 0)
	m.remote[o.channel-1] = &remoteSlot{waiting: true, handshake: bytes.Clone(o.handshake), name: name}
	p.incoming = append(p.incoming, o.channel)
	m.unclaimed++
	m.held += len(o.handshake) + name
	if listener == nil {
		return nil // until the offer before it is decided
	}
	p.offers++
	offer := &Offer{Protocol: k.protocol, ID: []byte(k.id), mux: m, pairing: p}
	m.call(func() error { listener(offer); return nil })
	if !offer.heldBack {
		m.decide(p)
	}
	return nil
}

// join answers the oldest of our channels that await the peer's open.
func (m *Mux) join(p *pairing, o openMessage) error {
	i := p.outgoing[0]
	p.outgoing = p.outgoing[1:]
	m.local[i].awaiting = nil
	c := m.local[i].channel
	if c == nil {
		// Closed by us before. The peer learns that from our close, and what
		// it sends meanwhile is ignored.
		m.free = append(m.free, i)
		m.forget(p)
		return nil
	}
	m.remote[o.channel-1] = &remoteSlot{channel: c}
	c.remoteID = o.channel
	return m.opened(c, o.handshake)
}

// reject processes the peer's reject.
func (m *Mux) reject(payload []byte) error {
	channel, err := parseChannel(payload)
	if err != nil {
		return violation("reject: %v", err)
	}
	if channel == 0 || channel > uint64(len(m.local)) || m.local[channel-1].awaiting == nil {
		return violation("reject of channel %d", channel)
	}
	i := int(channel - 1)
	l := &m.local[i]
	p := l.awaiting
	at := slices.Index(p.outgoing, i)
	p.outgoing = slices.Delete(p.outgoing, at, at+1)
	l.awaiting = nil
	m.free = append(m.free, i)
	if c := l.channel; c != nil {
		c.rejected = true
		m.closed(c, true)
	}
	m.forget(p)
	return nil
}

// decide ends an offer. When the last one of a pairing ends, the channels of the
// peer that nobody has taken are rejected.
func (m *Mux) decide(p *pairing) {
	if p.offers--; p.offers > 0 {
		return
	}
	for _, channel := range p.incoming {
		m.refuse(channel)
	}
	p.incoming = nil
	m.forget(p)
}

// refuse rejects a channel of the peer's.
func (m *Mux) refuse(channel uint64) {
	m.clear(channel)
	m.putControl(controlReject, channel)
}

// An Offer is a channel that the peer has opened and for which there was none
// here. It is taken by creating one with its protocol and id, and opening it.
type Offer struct {
	Protocol string
	ID       []byte // empty: none

	mux      *Mux
	pairing  *pairing
	heldBack bool
}

// Hold postpones the decision beyond the listener's return, until release is
// called.
func (o *Offer) Hold() (release func()) {
	m := o.mux
	m.mu.Lock()
	defer m.mu.Unlock()
	if o.heldBack {
		return func() {}
	}
	o.heldBack = true
	released := false
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !released {
			released = true
			m.decide(o.pairing)
			m.kick()
		}
	}
}

// Pair makes f the listener for channels that the peer opens with this protocol
// and id; nil stands for all ids that have no listener of their own. The
// listener takes the offer by creating a channel and opening it, or leaves it,
// and the peer's channel is rejected. It is called by Run.
func (m *Mux) Pair(protocol string, id []byte, f func(*Offer)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listeners[key{protocol, string(id)}] = f
}

// Unpair removes a listener.
func (m *Mux) Unpair(protocol string, id []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.listeners, key{protocol, string(id)})
}

// Opened reports whether a channel of this protocol and id is open here.
func (m *Mux) Opened(protocol string, id []byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pairings[key{protocol, string(id)}]
	return p != nil && p.opened > 0
}

// LastChannel returns the channel of this protocol and id that was opened last,
// or nil if there is none or it is closed.
func (m *Mux) LastChannel(protocol string, id []byte) *Channel {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.pairings[key{protocol, string(id)}]; p != nil {
		return p.last
	}
	return nil
}
