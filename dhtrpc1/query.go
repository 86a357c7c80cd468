package dhtrpc1

import (
	"context"
	"iter"
	"net/netip"
	"time"
)

// A Query says what to run where. A value; copy freely.
type Query struct {
	// Command is the application's, or one of dht-rpc itself.
	Command string
	// Target is what the nodes asked shall be closest to.
	Target ID
	// Value goes along with the command; nil is none.
	Value []byte

	// Nodes, if there are any, are asked instead of those on the way to the
	// target, all of them (up to 4,096) and nobody else.
	Nodes []Peer
	// K is how many of the closest nodes to find; 0 is 20.
	K int
	// Concurrency is the number of requests in flight at most, which are also
	// bounded for the node as a whole; 0 is 16.
	Concurrency int
	// NoHolepunch has nodes that do not answer not tried once more through the
	// node that named them.
	NoHolepunch bool
	// Verbose has a closest query yield the replies of its first part, too.
	// (In the reference since 2.0 also: query.)
	Verbose bool

	background bool // a bootstrap: stand back while others search
}

// A Peer is a node to be asked by address.
type Peer struct {
	Addr netip.AddrPort
	// Referrer is a node to punch a hole through; the zero value is none.
	Referrer netip.AddrPort
}

// A Reply is what a node answered to a query.
type Reply struct {
	From Contact
	// Value is nil if the node had none for us.
	Value []byte
	// Closest tells the replies of a closest query's second part.
	Closest bool
}

// Query runs a command on the nodes on the way to the target and yields their
// replies as they come, also those without a value; replies of ephemeral nodes
// are not yielded. While the caller does not take replies nothing more is
// asked; to stop taking them ends the query.
//
// The error comes last: ErrNoNodes, ErrTooLarge, ErrClosed, ErrAddress, or the
// context's.
func (n *Node) Query(ctx context.Context, q Query) iter.Seq2[Reply, error] {
	return n.search(ctx, q, false)
}

// Closest finds the nodes closest to the target with the command as a plain
// query, and then runs it on them as a closest query: with the token that each
// has given us, which proves our address. It yields the replies of the second
// part, of both if the query is verbose.
//
// A node that does not accept our token any more answers like everybody else;
// where it matters that something was stored, read it back. The error is as for
// Query, and ErrNoCloseNodes.
func (n *Node) Closest(ctx context.Context, q Query) iter.Seq2[Reply, error] {
	return n.search(ctx, q, true)
}

// Update is [Node.Closest] under its name of 2.x.
func (n *Node) Update(ctx context.Context, q Query) iter.Seq2[Reply, error] {
	return n.search(ctx, q, true)
}

// Collect takes all replies of a query, and its error.
func Collect(replies iter.Seq2[Reply, error]) ([]Reply, error) {
	var all []Reply
	for r, err := range replies {
		if err != nil {
			return all, err
		}
		all = append(all, r)
	}
	return all, nil
}

// Bootstrap searches for our own id, so that the table fills with our
// neighbours and they hear of us. A node does it once by itself; call it now
// and then if you do not ask anything else. Without bootstrap nodes there is
// nothing to do.
func (n *Node) Bootstrap(ctx context.Context) error {
	var alone bool
	err := n.do(ctx, func(c *core, _ time.Time) { alone = len(c.bootstrap) == 0 })
	if err != nil || alone {
		return err
	}
	for _, err := range n.search(ctx, Query{Command: commandFindNode, Target: n.id, background: true}, false) {
		if err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) firstBootstrap() {
	if err := n.Bootstrap(context.Background()); err != nil {
		n.log.Debug("bootstrap failed", "error", err)
	}
	n.do(context.Background(), func(c *core, _ time.Time) { c.bootstrapped = true })
	select {
	case <-n.closing:
	default:
		close(n.ready)
	}
}
