package protomux

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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

// More than 32768 bytes for channels that wait stop the reading.
func TestHeldLimit(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		var release func()
		h.Pair("p", nil, func(o *Offer) { release = o.Hold() })
		h.in(openFrame(1, "p", "", ""))
		message := append([]byte{1, 0}, make([]byte, 512)...) // counts 1024
		for range 40 {
			h.in(message)
		}
		h.wire.mu.Lock()
		left := len(h.wire.incoming)
		h.wire.mu.Unlock()
		if left != 40-33 {
			t.Errorf("%d messages are unread", left)
		}
		got := 0
		c := must(h.Channel(ChannelConfig{Protocol: "p", Messages: []func(*Channel, []byte) error{func(*Channel, []byte) error { got++; return nil }}}))
		if err := c.Open(nil); err != nil {
			t.Fatal(err)
		}
		release()
		synctest.Wait()
		if got != 40 || h.held != 0 {
			t.Errorf("%d messages, %d held", got, h.held)
		}
		// The same for handshakes, and a reject lets go as well.
		h.in(openFrame(2, "p", "", string(make([]byte, 40000))), openFrame(3, "q", "", ""))
		h.want("paused", openFrame(1, "p", "", ""))
		release()
		h.want("goes on", controlFrame(controlReject, 2), controlFrame(controlReject, 3))
	})
}

func TestOfferLimit(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		h.Pair("p", nil, func(o *Offer) { o.Hold() })
		for i := range maxUnclaimed {
			h.wire.put(openFrame(uint64(i+1), "p", fmt.Sprint(i%3), ""))
		}
		h.want("held")
		h.in(openFrame(maxUnclaimed+1, "p", "", ""))
		h.want("one too many", controlFrame(controlReject, maxUnclaimed+1))
		if err, over := h.over(); over {
			t.Error(err)
		}
	})
}

func TestChannelNumberLimit(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		b := []byte{0, 0, 0}
		for i := range maxChannels {
			item := openFrame(uint64(i+1), "p", "", "")[1:]
			b = compact.AppendBuffer(b, item)
		}
		h.in(b)
		if err, over := h.over(); over {
			t.Fatal(err)
		}
		h.in(openFrame(maxChannels+1, "p", "", ""))
		if err, over := h.over(); !over || !errors.Is(err, ErrProtocol) {
			t.Error(err, over)
		}
	})
}

func TestNestedBatches(t *testing.T) {
	for _, depth := range []int{1, maxNesting, maxNesting + 1, 2000} {
		bubble(t, func(t *testing.T, h *harness) {
			b := openFrame(1, "p", "", "")[1:]
			for range depth {
				b = compact.AppendBuffer([]byte{controlBatch, 0}, b)
			}
			h.in(append([]byte{0}, b...))
			if err, over := h.over(); over != (depth > maxNesting) || over && !errors.Is(err, ErrProtocol) {
				t.Errorf("depth %d: %v, %v", depth, over, err)
			}
		})
	}
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

func TestBatchSize(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		c := must(h.Channel(ChannelConfig{Protocol: "p"}))
		c.Open(nil)
		h.wire.sent()
		h.Cork()
		h.Cork()
		payload := make([]byte, 1<<20)
		for range 9 {
			if err := c.Send(0, payload); err != nil {
				t.Fatal(err)
			}
		}
		h.Uncork()
		synctest.Wait()
		if sent := h.wire.sent(); len(sent) != 1 || len(sent[0]) < maxBatch || len(sent[0]) > maxBatch+len(payload) {
			t.Errorf("%d frames before the last Uncork", len(sent))
		}
		h.Uncork()
		synctest.Wait()
		if sent := h.wire.sent(); len(sent) != 1 || len(sent[0]) != 3+5+1+len(payload) {
			t.Errorf("%d frames after it", len(sent))
		}
	})
}

func TestTooLarge(t *testing.T) {
	bubble(t, func(t *testing.T, h *harness) {
		c := must(h.Channel(ChannelConfig{Protocol: "p"}))
		payload := make([]byte, MaxFrame)
		if err := c.Open(payload); !errors.Is(err, ErrTooLarge) {
			t.Error(err)
		}
		if err := c.Open(nil); err != nil {
			t.Fatal(err)
		}
		h.wire.sent()
		for _, e := range []struct {
			corked bool
			n      int
			ok     bool
		}{
			{false, MaxFrame - 2, true}, {false, MaxFrame - 1, false}, {true, MaxFrame - 2 - itemOverhead, true}, {true, MaxFrame - 2, false},
		} {
			if e.corked {
				h.Cork()
			}
			if err := c.Send(0, payload[:e.n]); (err == nil) != e.ok || err != nil && !errors.Is(err, ErrTooLarge) {
				t.Errorf("%+v: %v", e, err)
			}
			if e.corked {
				h.Uncork()
			}
			synctest.Wait()
			for _, f := range h.wire.sent() {
				if len(f) > MaxFrame {
					t.Errorf("%+v: frame of %d bytes", e, len(f))
				}
			}
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

// Two sides that answer everything, over streams that hold nothing: neither may
// wait for the other to read.
func TestNoDeadlock(t *testing.T) {
	pair(t, 0, func(t *testing.T, a, b *Mux) {
		const rounds = 200
		var wg sync.WaitGroup
		wg.Add(1)
		var first sync.Once // side to have had so many; the other may never
		cfg := func() ChannelConfig {
			count := 0
			return ChannelConfig{
				Protocol: "p",
				OnOpen: func(c *Channel, _ []byte) error {
					for range 3 {
						if err := c.Send(0, make([]byte, 5000)); err != nil {
							return err
						}
					}
					return nil
				},
				Messages: []func(*Channel, []byte) error{func(c *Channel, payload []byte) error {
					if count++; count >= rounds {
						first.Do(wg.Done)
						return nil
					}
					return c.Send(0, payload)
				}},
			}
		}
		b.Pair("p", nil, func(*Offer) { must(b.Channel(cfg())).Open(nil) })
		must(a.Channel(cfg())).Open(nil)
		wg.Wait()
	})
}

// Bulk in both directions, acknowledged by the functions of the channels: the
// bulk waits for room, the acknowledgements do not, and all of it gets through.
func TestFullDuplex(t *testing.T) {
	pair(t, 0, func(t *testing.T, a, b *Mux) {
		const messages, size = 40, 200 << 10
		var done sync.WaitGroup
		cfg := func() ChannelConfig {
			acks := 0
			return ChannelConfig{Protocol: "p", Messages: []func(*Channel, []byte) error{
				func(c *Channel, payload []byte) error { return c.Send(1, payload[:size/2]) },
				func(c *Channel, payload []byte) error {
					if acks++; acks == messages {
						done.Done()
					}
					return nil
				},
			}}
		}
		done.Add(2)
		bulk := func(c *Channel) {
			payload := make([]byte, size)
			for range messages {
				if err := c.Send(0, payload); err != nil {
					t.Error(err)
				}
			}
		}
		b.Pair("p", nil, func(*Offer) {
			c := must(b.Channel(cfg()))
			c.Open(nil)
			go bulk(c)
		})
		c := must(a.Channel(cfg()))
		c.Open(nil)
		go bulk(c)
		done.Wait()
	})
}

// A peer that asks and does not read: what it is answered is bounded, and then
// it is over.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := newPipe(0)
		far.room = 3 // the peer leaves that unread
		m := New(near)
		near.room = -1
		answers := 0
		c := must(m.Channel(ChannelConfig{Protocol: "p", Messages: []func(*Channel, []byte) error{
			func(c *Channel, payload []byte) error { answers++; return c.Send(0, make([]byte, 64<<10)) },
		}}))
		c.Open(nil)
		near.put(openFrame(1, "p", "", ""))
		for range 1000 {
			near.put([]byte{1, 0})
		}
		began := time.Now()
		ended := make(chan error, 1)
		var took time.Duration
		go func() {
			err := m.Run()
			took = time.Since(began)
			ended <- err
		}()
		synctest.Wait()
		if answers < maxWaived>>16 || answers > 2*(maxWaived+2*maxQueued)>>16 { // one part is being written
			t.Errorf("%d answers", answers)
		}
		// The peer reads a little, and it goes on.
		before := answers
		for range 200 {
			if _, err := far.ReadMessage(); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if answers == before {
			t.Error("it does not go on")
		}
		if err := <-ended; !errors.Is(err, ErrStalled) || took != stallTime {
			t.Errorf("after %v: %v", took, err)
		}
		far.Close() // lets the writer go
		synctest.Wait()
	})
}

// Senders wait for a stream that does not take more, and are woken by the end.
func TestBackpressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wa, wb := newPipe(0)
		a := New(wa)
		go a.Run()
		c := must(a.Channel(ChannelConfig{Protocol: "p"}))
		go c.Open(nil)
		synctest.Wait()
		var mu sync.Mutex
		sent, failed := 0, 0
		const senders, size = 8, 256 << 10
		for range senders {
			go func() {
				for range 100 {
					err := c.Send(0, make([]byte, size))
					mu.Lock()
					if err != nil {
						failed++
						mu.Unlock()
						return
					}
					sent++
					mu.Unlock()
				}
			}()
		}
		synctest.Wait()
		mu.Lock()
		if sent*size > 2*maxQueued {
			t.Errorf("%d bytes were taken", sent*size)
		}
		before := sent
		mu.Unlock()
		for range 10 {
			if _, err := wb.ReadMessage(); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		mu.Lock()
		if sent <= before {
			t.Error("nobody was woken")
		}
		mu.Unlock()
		a.Close()
		synctest.Wait()
		mu.Lock()
		if failed < senders-1 { // one may be writing
			t.Errorf("%d of %d senders have ended", failed, senders)
		}
		mu.Unlock()
		wb.Close()
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if failed != senders {
			t.Errorf("%d of %d senders have ended", failed, senders)
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
