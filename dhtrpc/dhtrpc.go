// Package dhtrpc is dht-rpc v6: remote procedure calls over a Kademlia DHT. A
// [Node] answers other nodes, keeps a routing table, learns its own public
// address, and carries commands of your own to the nodes closest to a key.
//
//	node, err := dhtrpc.Listen(dhtrpc.Config{Bootstrap: []string{"10.0.0.1:49737"}, Handler: h})
//	...
//	q := node.Query(dhtrpc.Message{Command: 1, Target: &key}, dhtrpc.QueryOptions{})
//	for reply, err := range q.Replies(ctx) { ... }
//
// A UDP datagram is a message, over IPv4, all integers little-endian:
//
//	request   03 | flags | tid (2) | to (6) | id (32)? | token (32)? | command | target (32)? | value?
//	reply     13 | flags | tid (2) | to (6) | id (32)? | token (32)? | closer nodes (6 each)? | error? | value?
//
// "to" is the receiver's address as the sender sees it, which is how nodes
// learn their public addresses. A persistent node bears an id, the hash of its
// public address; an ephemeral one bears none and is listed by nobody. A token
// shows that a requester receives at its address; a commit needs one from each
// node it goes to.
//
// # Who runs what
//
// All state of a node lies in one core, a plain struct without goroutine, clock
// or socket, under the node's lock. There is no owner goroutine: whoever has
// something for the core takes the lock and steps it, sends what came of it
// after releasing the lock, and goes on. For datagrams that is the reader of
// the socket, once for each batch, so that a request is answered, and the next
// visit of a query made, without a hand-over between goroutines (which would
// cost as much as the rest of the work). A timer's function does the same when
// something is due. Handlers run in such a step; see [Handler] for what they
// must not do. Everything that takes time (bootstrapping, the test of
// reachability, a query's commit) is a procedure: a function that blocks, in a
// goroutine of its own or its caller's.
//
// The specification is docs/spec/dht-rpc.md; where this package departs from
// the reference, DEVIATIONS.md says why.
//
// Left out on purpose: IPv6, which the protocol's addresses cannot express;
// versions before 6 (package dhtrpc1 speaks 1.x to 3.x); storage of any kind.
package dhtrpc
