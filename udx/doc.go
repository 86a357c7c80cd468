// Package udx implements UDX, the reliable, multiplexed stream protocol over UDP
// that HyperDHT's connections run on (docs/spec/udx.md; the reference is libudx).
//
//	0      1      2      3        4        8       12     16     20
//	+------+------+------+--------+--------+-------+------+------+--------------+---------
//	| 0xff | 0x01 |flags | offset | stream | rwnd  | seq  | ack  | SACK blocks, | payload
//	+------+------+------+--------+--------+-------+------+------+--------------+---------
//
// Numbers count packets, not bytes as TCP's do; windows are bytes. There is no
// handshake, no encryption and no checksum: both ends learn each other's stream
// id, address and first numbers by other means, and protect the bytes themselves
// (package secretstream).
//
//	mux := udx.NewMux(udx.Config{})
//	go udp.Serve(conn, mux)
//	s, err := mux.NewStream(udx.StreamConfig{})
//	// tell the peer s.ID(), learn its id and address
//	err = s.Connect(conn, remoteID, remote, udx.ConnectOptions{})
//	// s is a net.Conn
//
// A [Mux] holds the streams of a node and serves all of its sockets. A [Stream]
// is a [net.Conn] with half-close (CloseWrite), abort (Destroy), messages beside
// the stream, changes of path, and relaying. Loss is found with RACK and a tail
// loss probe, selective acknowledgements and a retransmission timeout; BBR decides
// how much is in flight and paces it; the path's MTU is searched for.
//
// Left out on purpose: the reference's framed streams, which only decide how its
// JavaScript cuts events; black-hole detection, since a number's payload is fixed
// and could not be cut anew; ECN. DEVIATIONS.md lists where this package departs
// from the reference.
package udx
