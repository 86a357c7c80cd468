package protomux

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

func seeds(f *testing.F) {
	for _, v := range load(f).Protomux {
		for _, frames := range [][]hx{v.Injected, v.FramesSent} {
			for _, b := range frames {
				f.Add([]byte(b))
			}
		}
	}
}

func FuzzParseOpen(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseOpen(b)
		if err != nil {
			return
		}
		again, err := parseOpen(o.Append(nil))
		if err != nil || fmt.Sprintf("%+v", again) != fmt.Sprintf("%+v", o) {
			t.Fatalf("%+v is read again as %+v, %v", o, again, err)
		}
		if n := len(o.Append(nil)); n > openSize(o) {
			t.Fatalf("%d bytes, at most %d", n, openSize(o))
		}
	})
}

func FuzzParseBatch(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseBatch(b)
		if err != nil {
			return
		}
		total := 0
		for {
			item, ok, err := r.next()
			if err != nil || !ok {
				break
			}
			if total += len(item) + 1; total > len(b) || len(item) == 0 && r.r.Len() > 0 {
				t.Fatalf("items of %d bytes in %d", total, len(b))
			}
		}
	})
}

// checkBooks checks what the mux knows about itself. Nobody else uses it now.
func checkBooks(t *testing.T, m *Mux) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	held, unclaimed, free := 0, 0, 0
	for i, s := range m.remote {
		switch {
		case s == nil:
			continue
		case s.channel == nil:
			unclaimed++
		case s.channel.remoteID != uint64(i+1) || s.channel.over:
			t.Fatalf("the peer's channel %d belongs to one of %d, over: %v", i+1, s.channel.remoteID, s.channel.over)
		}
		held += len(s.handshake) + s.name + s.count*heldSize + s.size
	}
	if held != m.held || unclaimed != m.unclaimed {
		t.Fatalf("%d bytes held, counted %d; %d unclaimed, counted %d", held, m.held, unclaimed, m.unclaimed)
	}
	isFree := make(map[int]bool)
	for _, i := range m.free {
		if isFree[i] || m.local[i] != (localSlot{}) {
			t.Fatalf("number %d is free twice, or in use", i+1)
		}
		isFree[i] = true
		free++
	}
	for i, l := range m.local {
		if l == (localSlot{}) && !isFree[i] {
			t.Fatalf("number %d is lost", i+1)
		}
	}
	for k, p := range m.pairings {
		if p.channels == 0 && len(p.outgoing) == 0 && len(p.incoming) == 0 && p.offers == 0 {
			t.Fatalf("pairing %v is forgotten", k)
		}
	}
}

// Whatever frames a peer sends, the mux keeps its books and answers no more
// than one reject for an open.
func FuzzReceive(f *testing.F) {
	f.Add(bytes.Join([][]byte{
		append([]byte{8}, openFrame(1, "foo", "", "")...),
		{3, 1, 0, 9},
		append([]byte{8}, openFrame(2, "foo", "", "")...),
		{3, 0, 3, 1},
	}, nil))
	for _, v := range load(f).Protomux {
		var in []byte
		for _, b := range v.Injected {
			in = append(append(in, byte(len(b))), b...)
		}
		f.Add(in)
	}
	// Frames of up to 255 bytes, each with its length in front.
	f.Fuzz(func(t *testing.T, in []byte) {
		w := newWire()
		m := New(w)
		cfg := ChannelConfig{Protocol: "foo", Shared: true, Messages: []func(*Channel, []byte) error{
			func(c *Channel, payload []byte) error {
				if len(payload) > 0 && payload[0] == 'x' {
					return errors.New("x")
				}
				return nil
			},
			func(c *Channel, payload []byte) error { c.Close(); return nil },
		}}
		var releases []func()
		m.Pair("foo", nil, func(o *Offer) {
			switch len(o.ID) {
			case 0:
				c, err := m.Channel(cfg)
				if err == nil {
					err = c.Open(nil)
				}
				if err != nil && m.err == nil {
					t.Errorf("no channel: %v", err)
				}
			case 1:
				releases = append(releases, o.Hold())
			}
		})
		first := must(m.Channel(cfg))
		if err := first.Open(nil); err != nil {
			t.Fatal(err)
		}
		for len(in) > 0 {
			n := min(int(in[0]), len(in)-1)
			w.incoming = append(w.incoming, in[1:1+n])
			in = in[1+n:]
		}
		// The offers are decided when all has come, or nothing more is read.
		w.ended = true
		done := make(chan error, 1)
		go func() { done <- m.Run() }()
		for {
			m.mu.Lock()
			for m.err == nil && m.held <= maxHeld {
				m.change.Wait()
			}
			over := m.err != nil
			m.mu.Unlock()
			if over {
				break
			}
			m.Close()
		}
		<-done
		for _, r := range releases {
			r()
		}
		checkBooks(t, m)
		if m.held != 0 && m.unclaimed == 0 {
			t.Fatalf("%d bytes are held", m.held)
		}
	})
}

// numbered is a channel that expects messages 0, 1, 2... after one open.
func numbered(protocol string) ChannelConfig {
	opened, next := false, byte(0)
	return ChannelConfig{
		Protocol: protocol,
		Shared:   true,
		OnOpen: func(c *Channel, handshake []byte) error {
			if opened || string(handshake) != "hs" {
				return fmt.Errorf("opened before: %v, with %q", opened, handshake)
			}
			opened = true
			return nil
		},
		Messages: []func(*Channel, []byte) error{func(c *Channel, payload []byte) error {
			if !opened || len(payload) != 1 || payload[0] != next {
				return fmt.Errorf("message %x instead of %d, open: %v", payload, next, opened)
			}
			next++
			return nil
		}},
	}
}

// Two muxes talk to each other while the fuzzer opens, closes and sends on both
// and decides when frames arrive. Neither ever finds the other at fault, and
// when all is closed nothing is left.
func FuzzTwoMuxes(f *testing.F) {
	f.Add([]byte{0x00, 0x10, 0x40, 0x50, 0x20, 0x30, 0x41, 0x51})
	f.Add([]byte{0x00, 0x04, 0x08, 0x20, 0x24, 0x40, 0x40, 0x50, 0x00, 0x40, 0x50})
	f.Add([]byte{0x60, 0x00, 0x01, 0x30, 0x70, 0x40, 0x41, 0x42, 0x80, 0x90, 0x50})
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) > 500 {
			return
		}
		type side struct {
			*Mux
			wire     *wire
			channels []*Channel
			releases []func()
		}
		protocols := []string{"a", "b"}
		var sides [2]*side
		for i := range sides {
			s := &side{wire: newWire()}
			s.Mux = New(s.wire)
			open := func(protocol string) {
				c := must(s.Channel(numbered(protocol)))
				s.channels = append(s.channels, c)
				if err := c.Open([]byte("hs")); err != nil {
					t.Error(err)
				}
			}
			s.Pair("a", nil, func(o *Offer) { open("a") })
			s.Pair("b", nil, func(o *Offer) {
				if len(s.channels)%2 == 0 {
					s.releases = append(s.releases, o.Hold())
				}
			})
			sides[i] = s
			t.Cleanup(func() { s.Close() })
		}
		sent := make(map[*Channel]byte)
		deliver := func(to, from *side) bool {
			from.wire.mu.Lock()
			written := from.wire.written
			if len(written) > 0 {
				from.wire.written = written[1:]
			}
			from.wire.mu.Unlock()
			if len(written) == 0 {
				return false
			}
			if err := to.dispatch(written[0]); err != nil {
				t.Fatalf("frame %x: %v", written[0], err)
			}
			// dispatch leaves the writing to others.
			for {
				to.mu.Lock()
				busy := to.out.flushing || to.out.queue != nil
				if busy {
					to.change.Wait()
				}
				to.mu.Unlock()
				if !busy {
					break
				}
			}
			checkBooks(t, to.Mux)
			return true
		}
		for _, op := range ops {
			s, other := sides[op>>4&1], sides[1-op>>4&1]
			arg := int(op & 15)
			switch op >> 5 {
			case 0:
				c := must(s.Channel(numbered(protocols[arg&1])))
				s.channels = append(s.channels, c)
				if err := c.Open([]byte("hs")); err != nil {
					t.Fatal(err)
				}
			case 1:
				if len(s.channels) > 0 {
					s.channels[arg%len(s.channels)].Close()
				}
			case 2, 3:
				for range arg/4 + 1 {
					deliver(s, other)
				}
			case 4, 5:
				if len(s.channels) > 0 {
					c := s.channels[arg%len(s.channels)]
					if err := c.Send(0, []byte{sent[c]}); err == nil {
						sent[c]++
					}
				}
			case 6:
				if arg&1 == 0 {
					s.Cork()
				} else if s.out.corked > 0 {
					s.Uncork()
				}
			case 7:
				if len(s.releases) > 0 {
					s.releases[0]()
					s.releases = s.releases[1:]
				}
			}
			checkBooks(t, s.Mux)
		}
		// Now everything ends.
		for range 100 {
			for i, s := range sides {
				for s.out.corked > 0 {
					s.Uncork()
				}
				for deliver(sides[1-i], s) {
				}
				for _, r := range s.releases {
					r()
				}
				s.releases = nil
				for _, c := range s.channels {
					c.Close()
				}
			}
		}
		for i, s := range sides {
			s.mu.Lock()
			if len(s.local) != len(s.free) || len(s.pairings) != 0 || len(s.channels) != 0 && len(s.Mux.channels) != 0 || s.held != 0 || s.unclaimed != 0 {
				t.Errorf("side %d: %d of %d numbers free, %d pairings, %d held, %d unclaimed", i, len(s.free), len(s.local), len(s.pairings), s.held, s.unclaimed)
			}
			for _, r := range s.remote {
				if r != nil {
					t.Errorf("side %d keeps a channel of the peer's", i)
				}
			}
			s.mu.Unlock()
		}
	})
}
