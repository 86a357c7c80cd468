// Package hyperdht reaches machines by public key. A [Node] is a member of a
// HyperDHT network, the public one or one's own. It dials peers ([Node.Dial]),
// who may be anywhere, behind NATs and firewalls too, and listens for them
// ([Node.Listen]); what comes out is a [net.Conn], encrypted end to end, whose
// other end has proved its key. Beside that it finds who has announced a topic
// ([Node.Lookup], [Node.Announce]) and keeps small records, immutable ones under
// the hash of their value and mutable ones under their owner's key
// ([Node.ImmutablePut], [Node.MutablePut]).
//
//	node, err := hyperdht.New(hyperdht.Config{})
//	l, err := node.Listen(ctx, hyperdht.ListenConfig{})
//	http.Serve(l, handler)                    // at l.PublicKey(), from anywhere
//
//	conn, err := other.Dial(ctx, publicKey)
//
// # How a connection is made
//
//	client                    DHT node (relay)                 server
//	   |   FIND_PEER  ------------->|<------ ANNOUNCE, pings ------|
//	   |<--------- "I know him"     |                              |
//	   |   PEER_HANDSHAKE --------->|----------------------------->|
//	   |<---------------------------|<-----------------------------|  Noise IK
//	   |   PEER_HOLEPUNCH, if neither end is open -> -> -> -> ->   |
//	   |<- - - - - - - - - punches, one byte each - - - - - - - - >|
//	   |<================ UDX stream, secretstream ===============>|
//
// The handshake travels through DHT nodes that hold the server's announcement;
// they learn nothing but who asks whom. In it the ends tell each other how they
// can be reached, and then several ways race: directly, over the local network,
// by hole punching, through a blind relay. The stream moves from a relay to a
// direct path while it carries data.
//
// It speaks the protocol of npm hyperdht 6.x on the wire; docs/spec/
// hyperdht-connect.md and hyperdht-records.md hold it, DEVIATIONS.md where we
// differ. "Spec" with a section, in comments of the connecting side, is the
// former page.
//
// Left out on purpose: IPv6, which the protocol has no room for.
package hyperdht
