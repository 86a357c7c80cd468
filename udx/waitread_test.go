package udx

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/vnet"
)

// TestWaitRead: WaitRead returns when there is something to read, an end
// included, takes nothing, and obeys deadline and Close.
func TestWaitRead(t *testing.T) {
	world(t, vnet.Link{Latency: 10 * time.Millisecond}, func(t *testing.T, _ *vnet.Network, a, b *side) {
		x, y := pair(t, a, b)
		var result error
		done := false
		wait := func() {
			done = false
			go func() {
				result = y.WaitRead()
				done = true
			}()
			synctest.Wait()
		}
		want := func(why string, err error) {
			t.Helper()
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			if !done || !errors.Is(result, err) {
				t.Fatalf("%s: returned %v, with %v, want %v", why, done, result, err)
			}
		}

		wait()
		if done {
			t.Fatal("returned before there was anything")
		}
		x.Write([]byte("ab"))
		want("data", nil)
		p := make([]byte, 1)
		for range 2 {
			if err := y.WaitRead(); err != nil {
				t.Fatal(err)
			}
			if _, err := y.Read(p); err != nil {
				t.Fatal(err)
			}
		}

		y.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		wait()
		want("deadline", os.ErrDeadlineExceeded)
		var timeout net.Error
		if !errors.As(result, &timeout) || !timeout.Timeout() {
			t.Errorf("%v is no timeout", result)
		}
		y.SetReadDeadline(time.Time{})

		wait()
		x.CloseWrite()
		want("END", nil)
		if _, err := y.Read(p); err != io.EOF {
			t.Errorf("after the END: %v", err)
		}

		_, y = pair(t, a, b)
		wait()
		y.Close()
		want("Close", net.ErrClosed)

		x, y = pair(t, a, b)
		wait()
		x.Destroy(nil)
		want("DESTROY", nil)
		if _, err := y.Read(p); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after the DESTROY: %v", err)
		}
	})
}
