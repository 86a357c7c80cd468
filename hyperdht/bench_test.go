package hyperdht

import (
	"io"
	"testing"
)

// A connection from the dial to the first echoed byte, on a network of real
// sockets and a node that has dialled before.
func BenchmarkDialEcho(b *testing.B) {
	boot := loopbackNetwork(b, 8)
	server, client := loopbackNode(b, Config{Bootstrap: boot, Firewalled: isFalse()}), loopbackNode(b, Config{Bootstrap: boot})
	l, err := server.Listen(b.Context(), ListenConfig{})
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	dial := func() {
		c, err := client.Dial(b.Context(), l.PublicKey())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Write([]byte{1}); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			dial()
		}
	})
	b.Run("many", func(b *testing.B) {
		b.SetParallelism(50)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				dial()
			}
		})
	})
}
