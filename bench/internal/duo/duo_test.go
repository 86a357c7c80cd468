package duo

import (
	"net"
	"os"
	"testing"
	"time"
)

// listen serves connections over TCP until the test ends.
func listen(t *testing.T) func() (Conn, error) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go Handle(c)
		}
	}()
	return func() (Conn, error) { return net.Dial("tcp4", l.Addr().String()) }
}

func TestTransfers(t *testing.T) {
	dial := listen(t)
	o := Options{Count: 20, Conns: 3, Rounds: 1, Bytes: 3 << 20, Chunk: 64 << 10, Size: 64, Idle: 50 * time.Millisecond, Server: []int{os.Getpid()}, Dial: dial, Fresh: dial}
	for test, field := range map[string]string{"connect": "open", "cold": "echo", "burst": "conn_s", "rtt": "rtt", "bulk": "mb_s", "flow": "mb_s"} {
		o.Test = test
		if r := Run(o); r[field] == nil {
			t.Errorf("%s has no %s: %v", test, field, r)
		}
	}
	// Round trips larger than the server's small buffer, to its exact size and back.
	for _, size := range []int{255, 256, 257, 1 << 20, 64} {
		c, _, _ := dial2(t, dial)
		o.Size, o.Count = size, 3
		rtt(o, c)
		c.Close()
	}
}

func dial2(t *testing.T, open func() (Conn, error)) (Conn, int64, int64) {
	t.Helper()
	c, opened, echoed := dial(open)
	if opened <= 0 || echoed < opened {
		t.Errorf("opened after %v, echoed after %v", time.Duration(opened), time.Duration(echoed))
	}
	return c, opened, echoed
}
