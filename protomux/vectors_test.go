package protomux

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"github.com/warren-dht/warren/compact"
	"github.com/warren-dht/warren/internal/vectors"
	"github.com/warren-dht/warren/noise"
	"github.com/warren-dht/warren/secretstream"
)

type hx = vectors.Hex

type muxVector struct {
	Name  string
	Opens []struct {
		LocalID   uint64 `json:"local_id"`
		Protocol  string
		ID        hx
		Handshake *string
	}
	Injected   []hx
	Local      string
	FramesSent []hx `json:"frames_sent"`
	Received   []string
	Destroyed  bool
}

// The members protomux and stream_protomux of testdata/secretstream.json;
// packages sodium, secretstream and relay check the others.
type muxVectors struct {
	Handshake struct {
		Handshake struct {
			Tx   hx `json:"initiator_tx"`
			Rx   hx `json:"initiator_rx"`
			Hash hx
		}
	} `json:"stream"`
	Protomux []muxVector
	Stream   struct {
		InitiatorHeader     hx       `json:"initiator_secretstream_header"`
		ResponderHeader     hx       `json:"responder_secretstream_header"`
		InitiatorWrites     []hx     `json:"initiator_writes"`
		ResponderWrites     []hx     `json:"responder_writes"`
		InitiatorReceived   []string `json:"initiator_received"`
		InitiatorPlaintexts []hx     `json:"initiator_plaintexts"`
		ResponderPlaintexts []hx     `json:"responder_plaintexts"`
	} `json:"stream_protomux"`
}

func load(t testing.TB) muxVectors {
	var v muxVectors
	vectors.Load(t, "secretstream.json", &v)
	if len(v.Protomux) == 0 || len(v.Stream.InitiatorWrites) == 0 {
		t.Fatal("vectors are missing")
	}
	return v
}

// text is a message of one compact string.
func text(s string) []byte { return compact.AppendString(nil, s) }

func readText(b []byte) (string, error) {
	r := compact.NewReader(b)
	s := r.UTF8()
	return s, r.Err()
}

// A recorder notes what the functions of a channel are called for.
type recorder struct{ received []string }

func (r *recorder) opened(c *Channel, handshake []byte) error {
	if len(handshake) == 0 {
		return nil
	}
	s, err := readText(handshake)
	r.received = append(r.received, "handshake "+s)
	return err
}

func (r *recorder) message(c *Channel, payload []byte) error {
	s, err := readText(payload)
	if err == nil {
		r.received = append(r.received, s)
	}
	return err
}

func (r *recorder) foo() ChannelConfig {
	return ChannelConfig{Protocol: "foo", OnOpen: r.opened, Messages: []func(*Channel, []byte) error{r.message}}
}

// What the local side does before the frames of a vector arrive. Each vector
// has an entry.
var muxVectorLocals = map[string]func(h *harness, r *recorder){
	"open, no id, no handshake":                                nil, // by its member opens
	"open with id and a handshake encoded as a compact string": nil,
	"open, message type 0 (string x), message type 1 (uint 7), close, none acknowledged": func(h *harness, r *recorder) {
		c := must(h.Channel(r.foo()))
		c.Open(nil)
		c.Send(0, text("x"))
		c.Send(1, compact.AppendUint(nil, 7))
		c.Close()
	},
	"remote opens a protocol nobody listens to: reject": func(h *harness, r *recorder) {},
	`one batch: open foo, open bar, foo type0 "hi", foo type1 300, bar type0 ffee, foo type0 "yo", close bar`: func(h *harness, r *recorder) {
		h.Cork()
		foo := must(h.Channel(ChannelConfig{Protocol: "foo"}))
		bar := must(h.Channel(ChannelConfig{Protocol: "bar"}))
		foo.Open(nil)
		bar.Open(nil)
		foo.Send(0, text("hi"))
		foo.Send(1, compact.AppendUint(nil, 300))
		bar.Send(0, []byte{0xff, 0xee})
		foo.Send(0, text("yo"))
		bar.Close()
		h.Uncork()
	},
	"cork and uncork around one message still makes a batch frame": func(h *harness, r *recorder) {
		c := must(h.Channel(r.foo()))
		c.Open(nil)
		h.Cork()
		c.Send(0, text("hi"))
		h.Uncork()
	},
	"cork and uncork around nothing sends nothing": func(h *harness, r *recorder) {
		h.Cork()
		h.Uncork()
	},
	"received batch: open foo, two messages": func(h *harness, r *recorder) {
		must(h.Channel(r.foo())).Open(nil)
	},
	"messages that arrive before the local side has the channel are kept and replayed after open": func(h *harness, r *recorder) {
		h.Pair("foo", nil, func(o *Offer) { o.Hold() })
	},
	"bad input: open with id 0":                 func(h *harness, r *recorder) {},
	"bad input: open that skips an id":          func(h *harness, r *recorder) {},
	"bad input: reject of an unknown id":        func(h *harness, r *recorder) {},
	"bad input: close of an unknown id":         func(h *harness, r *recorder) {},
	"bad input: close of id 0":                  func(h *harness, r *recorder) {},
	"bad input: unknown control type":           func(h *harness, r *recorder) {},
	"bad input: message for an unknown channel": func(h *harness, r *recorder) {},
	"bad input: varint cut short":               func(h *harness, r *recorder) {},
	"bad input: channel id without a type":      func(h *harness, r *recorder) {},
	"bad input: empty frame":                    func(h *harness, r *recorder) {},
	"bad input: message payload that does not decode": func(h *harness, r *recorder) {
		must(h.Channel(r.foo())).Open(nil)
		h.wire.sent() // the vector lists none of before
	},
	"tolerated: trailing bytes after a message payload, and a message type never registered": func(h *harness, r *recorder) {
		must(h.Channel(r.foo())).Open(nil)
	},
}

func TestVectors(t *testing.T) {
	used := 0
	for _, v := range load(t).Protomux {
		t.Run(v.Name, func(t *testing.T) {
			local, ok := muxVectorLocals[v.Name]
			if !ok {
				t.Fatal("nobody knows what the local side does")
			}
			used++
			synctest.Test(t, func(t *testing.T) {
				var r recorder
				h := hold(t)
				if local != nil {
					local(h, &r)
				}
				for _, o := range v.Opens {
					var handshake []byte
					if o.Handshake != nil {
						handshake = text(*o.Handshake)
					}
					c := must(h.Channel(ChannelConfig{Protocol: o.Protocol, ID: o.ID}))
					c.Open(handshake)
					if c.localID != o.LocalID {
						t.Errorf("channel %d, want %d", c.localID, o.LocalID)
					}
				}
				for _, f := range v.Injected {
					h.in(f)
				}
				check(t, h, &r, v)
			})
		})
	}
	if used != len(muxVectorLocals) {
		t.Errorf("%d vectors of %d", used, len(muxVectorLocals))
	}
}

// What the local side does after the frames of a vector have arrived.
var muxVectorAfter = map[string]func(h *harness, r *recorder){
	"messages that arrive before the local side has the channel are kept and replayed after open": func(h *harness, r *recorder) {
		must(h.Channel(r.foo())).Open(text("mine"))
	},
}

func check(t *testing.T, h *harness, r *recorder, v muxVector) {
	if after := muxVectorAfter[v.Name]; after != nil {
		after(h, r)
	}
	var frames [][]byte
	for _, f := range v.FramesSent {
		frames = append(frames, f)
	}
	h.want("frames", frames...)
	if fmt.Sprint(r.received) != fmt.Sprint(v.Received) {
		t.Errorf("received %q, want %q", r.received, v.Received)
	}
	err, over := h.over()
	if over != v.Destroyed {
		t.Errorf("ended: %v, %v", over, err)
	}
	if over && (err == nil || h.wire.err == nil) {
		t.Errorf("ended by %v, destroyed with %v", err, h.wire.err)
	}
}

// plaintexts notes the messages that a mux writes to its stream.
type plaintexts struct {
	*secretstream.Conn
	written [][]byte
}

func (p *plaintexts) WriteMessages(messages [][]byte) (int, error) {
	for _, m := range messages {
		p.written = append(p.written, bytes.Clone(m))
	}
	return p.Conn.WriteMessages(messages)
}

// The whole stack: what either side of a recorded connection has written to its
// raw stream makes the other side here say what it said there.
func TestStreamVector(t *testing.T) {
	v := load(t)
	keys := v.Handshake.Handshake
	res := noise.Result{Initiator: true, Tx: [32]byte(keys.Tx), Rx: [32]byte(keys.Rx), Hash: [64]byte(keys.Hash)}
	peer := res
	peer.Initiator, peer.Tx, peer.Rx = false, res.Rx, res.Tx
	for what, e := range map[string]struct{ header, write hx }{
		"initiator": {v.Stream.InitiatorHeader, v.Stream.InitiatorWrites[0]},
		"responder": {v.Stream.ResponderHeader, v.Stream.ResponderWrites[0]},
	} {
		if !bytes.HasSuffix(e.write, e.header) {
			t.Errorf("the %s's first write %x lacks its header %x", what, e.write, e.header)
		}
	}

	run := func(t *testing.T, res noise.Result, peerWrites, want []hx, local func(m *Mux)) {
		synctest.Test(t, func(t *testing.T) {
			raw, far := net.Pipe()
			go io.Copy(io.Discard, far)
			conn, err := secretstream.New(raw, res, secretstream.Config{})
			if err != nil {
				t.Fatal(err)
			}
			p := &plaintexts{Conn: conn}
			m := New(p)
			local(m)
			go m.Run()
			for _, w := range peerWrites {
				far.Write(w)
			}
			synctest.Wait()
			var frames [][]byte
			for _, w := range want {
				frames = append(frames, w)
			}
			if got, want := fmt.Sprintf("%x", p.written), fmt.Sprintf("%x", frames); got != want {
				t.Errorf("said %s, want %s", got, want)
			}
			if !m.Idle() {
				t.Error("a channel is open")
			}
			m.Close()
			far.Close()
			<-m.Done()
		})
	}
	var received []string
	t.Run("initiator", func(t *testing.T) {
		run(t, res, v.Stream.ResponderWrites, v.Stream.InitiatorPlaintexts, func(m *Mux) {
			c := must(m.Channel(ChannelConfig{Protocol: "echo", Messages: []func(*Channel, []byte) error{
				func(c *Channel, payload []byte) error {
					s, err := readText(payload)
					received = append(received, s)
					c.Close()
					return err
				},
			}}))
			if err := errors.Join(c.Open(nil), c.Send(0, text("ping"))); err != nil {
				t.Fatal(err)
			}
		})
	})
	if fmt.Sprint(received) != fmt.Sprint(v.Stream.InitiatorReceived) {
		t.Errorf("received %q, want %q", received, v.Stream.InitiatorReceived)
	}
	t.Run("responder", func(t *testing.T) {
		run(t, peer, v.Stream.InitiatorWrites, v.Stream.ResponderPlaintexts, func(m *Mux) {
			m.Pair("echo", nil, func(*Offer) {
				c := must(m.Channel(ChannelConfig{Protocol: "echo", Messages: []func(*Channel, []byte) error{
					func(c *Channel, payload []byte) error {
						s, err := readText(payload)
						if err != nil {
							return err
						}
						return c.Send(0, text("re: "+s))
					},
				}}))
				if err := c.Open(nil); err != nil {
					t.Error(err)
				}
			})
		})
	})
}
