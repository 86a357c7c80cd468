package protomux

import (
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/warren-dht/warren/noise"
	"github.com/warren-dht/warren/secretstream"
)

// loop is a Conn that hands over one batch of frames at a time, in memory.
type loop struct {
	frames chan []byte
	back   chan []byte
	last   []byte
}

func (l *loop) ReadMessage() ([]byte, error) {
	if l.last != nil {
		l.back <- l.last
	}
	f, ok := <-l.frames
	if !ok {
		return nil, io.EOF
	}
	l.last = f
	return f, nil
}

func (l *loop) WriteMessages(messages [][]byte) (int, error) {
	for _, m := range messages {
		var b []byte
		select {
		case b = <-l.back:
		default:
		}
		l.frames <- append(b[:0], m...)
	}
	return len(messages), nil
}

func (l *loop) CloseWrite() error { return nil }
func (l *loop) Close() error      { return nil }

// BenchmarkMessages sends messages to a mux that receives its own frames: its
// channel 1 is its own peer.
func BenchmarkMessages(b *testing.B) {
	for _, n := range []int{64, 1200, 65536} {
		for _, batch := range []int{1, 16} {
			b.Run(fmt.Sprintf("%d/batches of %d", n, batch), func(b *testing.B) {
				m := New(&loop{frames: make(chan []byte, 64), back: make(chan []byte, 128)})
				got := make(chan struct{}, 1)
				count, want := 0, 0
				c := must(m.Channel(ChannelConfig{Protocol: "p", Messages: []func(*Channel, []byte) error{
					func(*Channel, []byte) error {
						if count++; count == want {
							got <- struct{}{}
						}
						return nil
					},
				}}))
				if err := c.Open(nil); err != nil {
					b.Fatal(err)
				}
				go m.Run()
				<-c.Ready()
				payload := make([]byte, n)
				want = b.N
				b.SetBytes(int64(n))
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					if batch > 1 && i%batch == 0 {
						m.Cork()
					}
					if err := c.Send(0, payload); err != nil {
						b.Fatal(err)
					}
					if batch > 1 && (i%batch == batch-1 || i == b.N-1) {
						m.Uncork()
					}
				}
				<-got
			})
		}
	}
}

// A message there and one back, over an encrypted stream over TCP.
func BenchmarkRoundTrip(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	start := func(raw net.Conn, initiator bool, f func(*Channel, []byte) error) *Channel {
		res := noise.Result{Initiator: initiator}
		s, err := secretstream.New(raw, res, secretstream.Config{})
		if err != nil {
			b.Fatal(err)
		}
		m := New(s)
		c := must(m.Channel(ChannelConfig{Protocol: "p", Messages: []func(*Channel, []byte) error{f}}))
		if err := c.Open(nil); err != nil {
			b.Fatal(err)
		}
		go m.Run()
		b.Cleanup(func() { m.Close() })
		return c
	}
	got := make(chan struct{}, 1)
	start(far, false, func(c *Channel, p []byte) error { return c.Send(0, p) })
	c := start(near, true, func(c *Channel, p []byte) error { got <- struct{}{}; return nil })
	<-c.Ready()
	payload := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Send(0, payload); err != nil {
			b.Fatal(err)
		}
		<-got
	}
}
