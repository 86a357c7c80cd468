package dhtrpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/dhtrpc"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

// network starts a bootstrapper and 24 persistent nodes, each with a handler of
// its own, for the examples. Their network is a virtual one; on a real one leave
// Config.Network out.
func network(handler func() dhtrpc.Handler) (net *vnet.Network, nodes []*dhtrpc.Node) {
	net = vnet.New(1)
	first := newHost(net)
	for i := range 25 {
		var n *dhtrpc.Node
		var err error
		if i == 0 {
			n, err = dhtrpc.Bootstrapper(netip.AddrPortFrom(first.Addr(), 49737), dhtrpc.Config{Network: first, Handler: handler()})
		} else {
			n, err = dhtrpc.Listen(dhtrpc.Config{
				Network:   newHost(net),
				Bootstrap: []string{nodes[0].PublicAddr().String()},
				Ephemeral: dhtrpc.Never, // part of the network as soon as possible
				Handler:   handler(),
			})
		}
		if err != nil {
			log.Fatal(err)
		}
		if err := n.Ready(context.Background()); err != nil {
			log.Fatal(err)
		}
		nodes = append(nodes, n)
	}
	return net, nodes
}

func newHost(net *vnet.Network) *vnet.Host {
	h := net.Host()
	h.SetLink(vnet.Link{Latency: 100 * time.Microsecond})
	return h
}

func closeAll(net *vnet.Network, nodes []*dhtrpc.Node) {
	for _, n := range nodes {
		n.Close()
	}
	net.Close()
}

// greeter answers command 7.
func greeter() dhtrpc.Handler {
	return dhtrpc.HandlerFunc(func(r *dhtrpc.Request) bool {
		if r.Command != 7 {
			return false // the requester is told that the command is unknown
		}
		r.Reply(append([]byte("hello, "), r.Value...))
		return true
	})
}

// A network begins with a node that knows its own address; others find each
// other through it.
func Example() {
	ctx := context.Background()
	net, nodes := network(greeter)
	defer closeAll(net, nodes)

	node, err := dhtrpc.Listen(dhtrpc.Config{Network: newHost(net), Bootstrap: []string{nodes[0].PublicAddr().String()}})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	if err := node.Ready(ctx); err != nil {
		log.Fatal(err)
	}
	reply, err := node.Request(ctx, nodes[3].PublicAddr(), dhtrpc.Message{Command: 7, Value: []byte("world")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", reply.Value)
	// Output: hello, world
}

// The first node of a network has nobody to ask for its address.
func ExampleBootstrapper() {
	net := vnet.New(1)
	defer net.Close()
	host := net.Host()
	node, err := dhtrpc.Bootstrapper(netip.AddrPortFrom(host.Addr(), 49737), dhtrpc.Config{Network: host})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	if err := node.Ready(context.Background()); err != nil {
		log.Fatal(err)
	}
	id, persistent := node.ID()
	fmt.Println(persistent, id == dhtrpc.IDOf(node.PublicAddr()))
	// Output: true true
}

// A query walks to the nodes closest to a target. Each on the way is asked the
// command and answers for itself.
func ExampleNode_Query() {
	net, nodes := network(greeter)
	defer closeAll(net, nodes)

	target := dhtrpc.Hash([]byte("some topic"))
	q := nodes[5].Query(dhtrpc.Message{Command: 7, Target: &target, Value: []byte("you")}, dhtrpc.QueryOptions{})
	greetings := map[string]bool{}
	for reply, err := range q.Replies(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		greetings[string(reply.Value)] = true
		// Leaving the loop would end the query.
	}
	fmt.Println(greetings, len(q.Closest()), "closest nodes")
	// Output: map[hello, you:true] 20 closest nodes
}

// shelf is a handler that keeps what is committed to it. It runs under its
// node's lock, so its map needs none.
func shelf() dhtrpc.Handler {
	values := map[dhtrpc.ID][]byte{}
	return dhtrpc.HandlerFunc(func(r *dhtrpc.Request) bool {
		if r.Command != 1 || r.Target == nil {
			return false
		}
		if r.Token != nil { // a commit
			values[*r.Target] = bytes.Clone(r.Value)
		}
		r.Reply(values[*r.Target])
		return true
	})
}

// With a commit the command is sent again to the 20 closest nodes, each with
// the token that it gave. The token shows the handler that the requester is
// where it says.
func ExampleQueryOptions_commit() {
	ctx := context.Background()
	net, nodes := network(shelf)
	defer closeAll(net, nodes)

	key := dhtrpc.Hash([]byte("key"))
	put := nodes[1].Query(dhtrpc.Message{Command: 1, Target: &key, Value: []byte("value")}, dhtrpc.QueryOptions{Commit: true})
	if err := put.Run(ctx); err != nil {
		log.Fatal(err)
	}
	for reply, err := range nodes[9].Query(dhtrpc.Message{Command: 1, Target: &key}, dhtrpc.QueryOptions{}).Replies(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		if reply.Value != nil {
			fmt.Printf("%s\n", reply.Value)
			break
		}
	}
	// Output: value
}

// What goes to each of the closest nodes can be one's own, and the walk can
// start where an earlier one ended.
func ExampleQueryOptions() {
	ctx := context.Background()
	net, nodes := network(shelf)
	defer closeAll(net, nodes)

	key := dhtrpc.Hash([]byte("key"))
	look := nodes[1].Query(dhtrpc.Message{Command: 1, Target: &key}, dhtrpc.QueryOptions{})
	if err := look.Run(ctx); err != nil {
		log.Fatal(err)
	}
	put := nodes[1].Query(dhtrpc.Message{Command: 1, Target: &key}, dhtrpc.QueryOptions{
		Replies:     look.ClosestReplies(),
		OnlyClosest: true,
		CommitFunc: func(ctx context.Context, r dhtrpc.Reply) error {
			value := fmt.Appendf(nil, "for %v", r.From)
			stored, err := nodes[1].Request(ctx, r.From, dhtrpc.Message{Command: 1, Target: &key, Token: r.Token, Value: value})
			if err != nil {
				return err
			}
			return stored.Err()
		},
	})
	fmt.Println(put.Run(ctx))
	// Output: <nil>
}

// The nodes closest to a target, nearest first.
func ExampleNode_FindNode() {
	net, nodes := network(greeter)
	defer closeAll(net, nodes)

	id, _ := nodes[17].ID()
	q := nodes[2].FindNode(id, dhtrpc.QueryOptions{})
	if err := q.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	fmt.Println(q.Closest()[0].Addr == nodes[17].PublicAddr())
	// Output: true
}

// A reply with an error code is an answer. Codes of an application begin at 16.
func ExampleErrorCode() {
	const notFound dhtrpc.ErrorCode = 16
	net, nodes := network(func() dhtrpc.Handler {
		return dhtrpc.HandlerFunc(func(r *dhtrpc.Request) bool {
			r.Error(notFound)
			return true
		})
	})
	defer closeAll(net, nodes)

	reply, err := nodes[1].Request(context.Background(), nodes[2].PublicAddr(), dhtrpc.Message{Command: 1})
	if err != nil {
		log.Fatal(err) // nobody answered
	}
	var code dhtrpc.ErrorCode
	if errors.As(reply.Err(), &code) && code == notFound {
		fmt.Println("not found")
	}
	// Output: not found
}

// A handler must not wait. One that needs time detaches the request and answers
// it from another goroutine.
func ExampleRequest_Detach() {
	net, nodes := network(func() dhtrpc.Handler {
		return dhtrpc.HandlerFunc(func(r *dhtrpc.Request) bool {
			p := r.Detach()
			go func() {
				time.Sleep(10 * time.Millisecond)
				p.Reply([]byte("at last"))
			}()
			return true
		})
	})
	defer closeAll(net, nodes)

	reply, err := nodes[1].Request(context.Background(), nodes[2].PublicAddr(), dhtrpc.Message{Command: 1})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", reply.Value)
	// Output: at last
}

// Requests of one session are cancelled together, with one reason.
func ExampleSession() {
	net, nodes := network(greeter)
	defer closeAll(net, nodes)

	nobody := netip.AddrPortFrom(newHost(net).Addr(), 9)
	session := nodes[1].NewSession()
	time.AfterFunc(10*time.Millisecond, func() { session.Close(errors.New("changed my mind")) })
	_, err := nodes[1].Request(context.Background(), nobody, dhtrpc.Message{Command: 7}, dhtrpc.WithSession(session))
	fmt.Println(errors.Unwrap(err))
	// Output: changed my mind
}

// A single ping, through a socket of one's own with a low hop limit.
func ExampleNode_Ping() {
	net, nodes := network(greeter)
	defer closeAll(net, nodes)

	conn, err := nodes[1].Network().Listen(netip.AddrPort{})
	if err != nil {
		log.Fatal(err)
	}
	go udp.Serve(conn, nodes[1]) // the node hears the answers
	defer conn.Close()
	reply, err := nodes[1].Ping(context.Background(), nodes[2].PublicAddr(),
		dhtrpc.WithConn(conn), dhtrpc.WithTTL(20), dhtrpc.NoRetry())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.To.Port() == conn.LocalAddr().Port())
	// Output: true
}

// The life of a node as a stream.
func ExampleNode_Events() {
	net, nodes := network(greeter)
	defer closeAll(net, nodes)

	events := nodes[1].Events(context.Background())
	nodes[1].Suspend()
	nodes[1].Resume()
	nodes[1].Close()
	for e := range events {
		switch e.Kind {
		case dhtrpc.EventNodeAdded, dhtrpc.EventNodeRemoved, dhtrpc.EventNATUpdate:
		default:
			fmt.Println(e.Kind)
		}
	}
	// Output:
	// listening
	// persistent
	// ready
	// suspend
	// listening
	// wakeup
	// resume
	// close
}

// A node that is given the nodes it knew needs no bootstrap node.
func ExampleNode_SaveNodes() {
	net, nodes := network(greeter)
	defer closeAll(net, nodes)

	var file bytes.Buffer
	if err := nodes[1].SaveNodes(&file); err != nil {
		log.Fatal(err)
	}
	nodes[0].Close() // the bootstrap node is gone
	known, err := dhtrpc.ReadNodes(&file)
	if err != nil {
		log.Fatal(err)
	}
	node, err := dhtrpc.Listen(dhtrpc.Config{Network: newHost(net), Nodes: known})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()
	if err := node.Ready(context.Background()); err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(node.Nodes()) > 0)
	// Output: true
}
