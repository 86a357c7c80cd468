package protomux

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/warren-dht/warren/compact"
)

// openFrame is the peer's open.
func openFrame(channel uint64, protocol, id, handshake string) []byte {
	return openMessage{channel, []byte(protocol), []byte(id), []byte(handshake)}.Append([]byte{0, controlOpen})
}

func controlFrame(typ byte, channel uint64) []byte {
	return compact.AppendUint([]byte{0, typ}, channel)
}

// bubble runs f with a mux whose peer is the test.
func bubble(t *testing.T, f func(t *testing.T, h *harness)) {
	synctest.Test(t, func(t *testing.T) { f(t, hold(t)) })
}

// pair runs f with two muxes, whose streams take room messages, and checks in
// the end that they have ended in peace.
func pair(t *testing.T, room int, f func(t *testing.T, a, b *Mux)) {
	synctest.Test(t, func(t *testing.T) {
		wa, wb := newPipe(room)
		a, b := New(wa), New(wb)
		ended := make(chan error, 2)
		go func() { ended <- a.Run() }()
		go func() { ended <- b.Run() }()
		f(t, a, b)
		synctest.Wait()
		a.Close()
		for range 2 {
			if err := <-ended; err != nil && !errors.Is(err, ErrClosed) {
				t.Errorf("ended with %v", err)
			}
		}
	})
}

func TestChannelLife(t *testing.T) {
	pair(t, -1, func(t *testing.T, a, b *Mux) {
		var log []string
		var mu sync.Mutex
		note := func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			log = append(log, fmt.Sprintf(format, args...))
		}
		cfg := func(side string) ChannelConfig {
			return ChannelConfig{
				Protocol: "p",
				ID:       []byte("id"),
				OnOpen: func(c *Channel, handshake []byte) error {
					note("%s open %s", side, handshake)
					return nil
				},
				Messages: []func(*Channel, []byte) error{nil, func(c *Channel, payload []byte) error {
					note("%s got %s", side, payload)
					return nil
				}},
				OnClose: func(c *Channel, remote bool) { note("%s close %v", side, remote) },
			}
		}
		b.Pair("p", nil, func(o *Offer) {
			note("b offered %s %s", o.Protocol, o.ID)
			c := must(b.Channel(cfg("b")))
			if err := c.Open([]byte("from b")); err != nil {
				t.Error(err)
			}
		})
		c := must(a.Channel(cfg("a")))
		if err := c.Send(1, nil); !errors.Is(err, ErrNotOpen) {
			t.Errorf("send before open: %v", err)
		}
		if err := c.Open([]byte("from a")); err != nil {
			t.Fatal(err)
		}
		if err := c.Open(nil); err == nil {
			t.Error("opened twice")
		}
		if _, err := a.Channel(cfg("a")); !errors.Is(err, ErrExists) {
			t.Errorf("a second one: %v", err)
		}
		for typ, m := range []string{"reserved", "one", "unknown"} {
			if err := c.Send(typ, []byte(m)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.WaitOpen(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		other := b.LastChannel("p", []byte("id"))
		if !a.Opened("p", []byte("id")) || a.Opened("p", nil) || other == nil || a.LastChannel("p", []byte("id")) != c || a.LastChannel("q", nil) != nil || a.Idle() {
			t.Error("the channel is not known")
		}
		if c.Protocol() != "p" || string(c.ID()) != "id" || c.Mux() != a {
			t.Error("the channel does not know itself")
		}
		if err := other.Send(1, []byte("two")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		other.Close()
		other.Close()
		<-c.Done()
		synctest.Wait()
		if err := c.Send(1, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("send after close: %v", err)
		}
		if err := c.Open(nil); !errors.Is(err, ErrClosed) {
			t.Errorf("open after close: %v", err)
		}
		if a.Opened("p", []byte("id")) || !a.Idle() || !b.Idle() || len(a.pairings)+len(b.pairings) != 0 {
			t.Error("something is left")
		}
		want := "b offered p id|b open from a|b got one|a open from b|a got two|b close false|a close true"
		// What happens at a and at b has no common order.
		for _, side := range []string{"a ", "b "} {
			keep := func(s []string) string {
				var out []string
				for _, l := range s {
					if strings.HasPrefix(l, side) {
						out = append(out, l)
					}
				}
				return strings.Join(out, "|")
			}
			if got, want := keep(log), keep(strings.Split(want, "|")); got != want {
				t.Errorf("%s\nwant %s", got, want)
			}
		}
	})
}

func TestRejected(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		remote := make(chan bool, 1)
		c := must(h.Channel(ChannelConfig{Protocol: "foo", OnClose: func(c *Channel, r bool) { remote <- r }}))
		c.Open(nil)
		h.want("open", openFrame(1, "foo", "", ""))
		h.in(controlFrame(controlReject, 1))
		if err := c.WaitOpen(t.Context()); !errors.Is(err, ErrRejected) {
			t.Error(err)
		}
		if err := c.Send(0, nil); !errors.Is(err, ErrRejected) {
			t.Error(err)
		}
		if !<-remote || !h.Idle() {
			t.Error("not closed")
		}
		// A second reject of the number is a violation.
		h.in(controlFrame(controlReject, 1))
		if err, over := h.over(); !over || !errors.Is(err, ErrProtocol) {
			t.Error(err, over)
		}
	})
}

func TestWaitOpenEnds(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		c := must(h.Channel(ChannelConfig{Protocol: "foo"}))
		c.Open(nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.WaitOpen(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		c.Close()
		if err := c.WaitOpen(t.Context()); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

// The number of a channel that was closed before the peer answered is not used
// again before it has; freed numbers are, the last first.
func TestNumbers(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		open := func(name string) *Channel {
			c := must(h.Channel(ChannelConfig{Protocol: name}))
			c.Open(nil)
			return c
		}
		open("a").Close()
		h.want("closed at once", openFrame(1, "a", "", ""), controlFrame(controlClose, 1))
		b := open("b")
		h.want("1 is not free", openFrame(2, "b", "", ""))
		// The peer answers a, too late; what it sends there is ignored.
		h.in(openFrame(1, "a", "", ""), []byte{1, 0, 9})
		c := open("c")
		h.want("1 is free", openFrame(1, "c", "", ""))
		// The slot of the peer's 1 was never taken.
		h.in(openFrame(1, "b", "", ""), openFrame(2, "c", "", ""))
		b.Close()
		c.Close()
		h.want("closed", controlFrame(controlClose, 2), controlFrame(controlClose, 1))
		open("d")
		open("e")
		open("f")
		h.want("last in, first out", openFrame(1, "d", "", ""), openFrame(2, "e", "", ""), openFrame(3, "f", "", ""))
	})
}

// Several channels of one key join in the order of opening.
func TestShared(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		var log []string
		cfg := func(name string) ChannelConfig {
			return ChannelConfig{
				Protocol: "p", Shared: true,
				OnOpen: func(c *Channel, handshake []byte) error {
					log = append(log, fmt.Sprintf("%s-%s", name, handshake))
					return nil
				},
				OnClose: func(c *Channel, remote bool) { log = append(log, name+" closed") },
			}
		}
		for _, name := range []string{"a", "b", "c"} {
			must(h.Channel(cfg(name))).Open(nil)
		}
		h.in(openFrame(1, "p", "", "x"), openFrame(2, "p", "", "y"), controlFrame(controlClose, 1), openFrame(1, "p", "", "z"))
		if got, want := fmt.Sprint(log), "[a-x b-y a closed c-z]"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

func TestAliases(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		opened := 0
		c := must(h.Channel(ChannelConfig{
			Protocol: "new", ID: []byte("i"), Aliases: []string{"old", "older"},
			OnOpen: func(*Channel, []byte) error { opened++; return nil },
		}))
		c.Open(nil)
		h.want("the main name", openFrame(1, "new", "i", ""))
		h.in(openFrame(1, "older", "", "")) // not with this id
		h.want("another id", controlFrame(controlReject, 1))
		h.in(openFrame(1, "older", "i", ""))
		if opened != 1 {
			t.Error("an alias does not open the channel")
		}
		c.Close()
		h.want("closed", controlFrame(controlClose, 1))
		if len(h.pairings) != 0 {
			t.Errorf("%d pairings are left", len(h.pairings))
		}
	})
}

// A listener for an id comes before the one for all; without a claim the offer
// is rejected.
func TestListeners(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		var log []string
		h.Pair("p", nil, func(o *Offer) { log = append(log, "any "+string(o.ID)) })
		h.Pair("p", []byte("x"), func(o *Offer) { log = append(log, "x") })
		h.in(openFrame(1, "p", "x", ""), openFrame(1, "p", "y", ""), openFrame(1, "q", "x", ""))
		h.want("rejected", controlFrame(controlReject, 1), controlFrame(controlReject, 1), controlFrame(controlReject, 1))
		h.Unpair("p", []byte("x"))
		h.in(openFrame(1, "p", "x", ""))
		h.Unpair("p", nil)
		h.in(openFrame(1, "p", "x", ""))
		h.want("rejected", controlFrame(controlReject, 1), controlFrame(controlReject, 1))
		if got, want := fmt.Sprint(log), "[x any y any x]"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// Offers that are held back: the peer's messages wait, are delivered in order
// once there is a channel, and its close comes last.
func TestHeldOffer(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		var release []func()
		h.Pair("p", nil, func(o *Offer) { release = append(release, o.Hold()); o.Hold() })
		h.in(openFrame(1, "p", "", "hs"), []byte{1, 0, 'a'}, []byte{1, 1, 'b'}, openFrame(2, "p", "", "second"), []byte{2, 0, 'c'}, controlFrame(controlClose, 1))
		h.want("nothing yet")

		var log []string
		c := must(h.Channel(ChannelConfig{
			Protocol: "p",
			OnOpen:   func(c *Channel, handshake []byte) error { log = append(log, string(handshake)); return nil },
			Messages: []func(*Channel, []byte) error{func(c *Channel, p []byte) error { log = append(log, string(p)); return nil }},
			OnClose:  func(c *Channel, remote bool) { log = append(log, fmt.Sprint("closed ", remote)) },
		}))
		h.in([]byte{1, 0, 'd'}) // created, but not open
		if len(log) != 0 {
			t.Errorf("too early: %v", log)
		}
		if err := c.Open([]byte("own")); err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(log), "[hs a d closed true]"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		h.want("answered", openFrame(1, "p", "", "own"))
		release[0]()
		release[0]()
		h.want("one is not decided")
		release[1]()
		h.want("nobody wants the second", controlFrame(controlReject, 2))
		if h.held != 0 || h.unclaimed != 0 || len(h.pairings) != 0 || !h.Idle() {
			t.Errorf("%d bytes held, %d unclaimed, %d pairings", h.held, h.unclaimed, len(h.pairings))
		}
		// Both numbers are free again.
		h.in(openFrame(2, "q", "", ""), openFrame(1, "q", "", ""))
		h.want("rejected", controlFrame(controlReject, 2), controlFrame(controlReject, 1))
	})
}

// A claim that is given up before it is opened rejects the offer.
func TestClaimClosed(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		h.Pair("p", nil, func(o *Offer) { must(h.Channel(ChannelConfig{Protocol: "p"})).Close() })
		h.in(openFrame(1, "p", "", "handshake"))
		h.want("rejected", controlFrame(controlReject, 1))
		if h.held != 0 || h.unclaimed != 0 || len(h.pairings) != 0 {
			t.Errorf("%d bytes held, %d unclaimed, %d pairings", h.held, h.unclaimed, len(h.pairings))
		}
	})
}

// The answers to a batch are a batch.
func TestBatchedAnswers(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		c := must(h.Channel(ChannelConfig{Protocol: "p", Messages: []func(*Channel, []byte) error{
			func(c *Channel, payload []byte) error { return c.Send(0, payload) },
		}}))
		c.Open(nil)
		h.in(openFrame(1, "p", "", ""))
		h.wire.sent()
		h.in([]byte{0, 0, 1, 2, 0, 'a', 2, 0, 'b'})
		h.want("two", []byte{0, 0, 1, 2, 0, 'a', 2, 0, 'b'})
		h.in([]byte{0, 0, 1, 2, 0, 'a'})
		h.want("one", []byte{1, 0, 'a'})
		// A length beyond the end is cut, another channel may follow.
		h.in([]byte{0, 0, 9, 1, 0, 0, 1, 0xfc, 0, 'x'})
		h.want("cut", []byte{0, 0, 1, 2, 0, 'x'})
		if err, over := h.over(); over {
			t.Error(err)
		}
	})
}

// How a mux ends, and what its channels and users see of it.
func TestEnds(t *testing.T) {
	boom := errors.New("boom")
	for _, e := range []struct {
		why       string
		end       func(h *harness, c *Channel)
		want      error
		destroyed bool
	}{
		{"the peer ends the stream", func(h *harness, c *Channel) { h.wire.end() }, nil, false},
		{"Close", func(h *harness, c *Channel) { h.Close(); h.Close() }, ErrClosed, false},
		{"Close, then the end", func(h *harness, c *Channel) { h.Close(); h.wire.end() }, ErrClosed, false},
		{"the stream breaks", func(h *harness, c *Channel) { h.wire.Close() }, nil, true},
		{"a function fails", func(h *harness, c *Channel) { h.in([]byte{1, 1}) }, boom, true},
		{"a handshake is refused", func(h *harness, c *Channel) {
			must(h.Channel(ChannelConfig{Protocol: "q", OnOpen: func(*Channel, []byte) error { return boom }})).Open(nil)
			h.in(openFrame(2, "q", "", ""))
		}, boom, true},
		{"a held handshake is refused", func(h *harness, c *Channel) {
			h.Pair("q", nil, func(o *Offer) { o.Hold() })
			h.in(openFrame(2, "q", "", ""))
			c2 := must(h.Channel(ChannelConfig{Protocol: "q", OnOpen: func(*Channel, []byte) error { return boom }}))
			if err := c2.Open(nil); !errors.Is(err, boom) {
				h.t.Errorf("Open: %v", err)
			}
		}, boom, true},
		{"a held message fails", func(h *harness, c *Channel) {
			h.Pair("q", nil, func(o *Offer) { o.Hold() })
			h.in(openFrame(2, "q", "", ""), []byte{2, 0}, []byte{2, 0})
			c2 := must(h.Channel(ChannelConfig{Protocol: "q", Messages: []func(*Channel, []byte) error{func(*Channel, []byte) error { return boom }}}))
			if err := c2.Open(nil); !errors.Is(err, boom) {
				h.t.Errorf("Open: %v", err)
			}
		}, boom, true},
		{"writing fails", func(h *harness, c *Channel) { h.wire.CloseWrite(); c.Send(0, nil) }, nil, true},
	} {
		t.Run(e.why, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *harness) {
				closed := make(chan bool, 1)
				c := must(h.Channel(ChannelConfig{
					Protocol: "p",
					Messages: []func(*Channel, []byte) error{nil, func(*Channel, []byte) error { return boom }},
					OnClose: func(c *Channel, remote bool) {
						if _, err := h.Channel(ChannelConfig{Protocol: "more"}); err == nil {
							t.Error("a channel at the end")
						}
						closed <- remote
					},
				}))
				c.Open(nil)
				unopened := must(h.Channel(ChannelConfig{Protocol: "unopened"}))
				h.in(openFrame(1, "p", "", ""))
				e.end(h, c)
				err, over := h.over()
				if !over || e.want != nil && !errors.Is(err, e.want) || (e.want == nil && !e.destroyed) != (err == nil) {
					t.Fatalf("ended: %v, %v, want %v", over, err, e.want)
				}
				if !<-closed {
					t.Error("closed by us")
				}
				<-c.Done()
				<-unopened.Done()
				<-h.Done()
				if (h.wire.err != nil) != e.destroyed {
					t.Errorf("stream destroyed: %v", h.wire.err)
				}
				if !h.wire.closed || e.why == "the peer ends the stream" && !h.wire.endSent {
					t.Error("stream not closed")
				}
				if err := c.Send(0, nil); err == nil {
					t.Error("sent at the end")
				}
				if err := unopened.Open(nil); err == nil {
					t.Error("opened at the end")
				}
				if h.held != 0 {
					t.Errorf("%d bytes held", h.held)
				}
			})
		})
	}
}

// The error of a function whose channel is closed by then harms nobody.
func TestErrorOfClosedChannel(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		c := must(h.Channel(ChannelConfig{Protocol: "p", Messages: []func(*Channel, []byte) error{
			func(c *Channel, payload []byte) error { c.Close(); return errors.New("late") },
		}}))
		c.Open(nil)
		h.in(openFrame(1, "p", "", ""), []byte{1, 0})
		if err, over := h.over(); over {
			t.Error(err)
		}
	})
}

func TestUncorkPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Uncork without Cork")
		}
	}()
	New(newWire()).Uncork()
}
