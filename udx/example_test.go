package udx_test

import (
	"fmt"
	"io"
	"net/netip"

	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/udx"
)

// Two ends in one process. The ids and addresses that each must know of the
// other travel by other means; here they are at hand.
func Example() {
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	conn, err := udp.Default.Listen(loopback)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	mux := udx.NewMux(udx.Config{})
	defer mux.Close()
	go udp.Serve(conn, mux)

	// The server's stream is connected by the first packet that comes for it.
	server, _ := mux.NewStream(udx.StreamConfig{ID: 1, Accept: func(s *udx.Stream, c udp.Conn, from netip.AddrPort) bool {
		return s.Connect(c, 2, from, udx.ConnectOptions{}) == nil
	}})
	go func() {
		io.Copy(server, server) // an echo
		server.Close()
	}()

	client, _ := mux.NewStream(udx.StreamConfig{ID: 2})
	if err := client.Connect(conn, 1, conn.LocalAddr(), udx.ConnectOptions{}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(client, "hello")
	client.CloseWrite()
	answer, err := io.ReadAll(client)
	fmt.Printf("%s %v\n", answer, err)
	// Output: hello <nil>
}
