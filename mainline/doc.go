// Package mainline is a node of the BitTorrent DHT ("Mainline"): it finds and
// announces the peers of a torrent, and stores and reads small signed items.
//
//	node, err := mainline.Listen(mainline.Config{})
//	err = node.Ready(ctx)
//	lookup := node.Lookup(infoHash)
//	for peer := range lookup.Peers(ctx) { ... }
//
// It speaks BEP 5 with its extensions 32 (IPv6), 33 (scrape), 42 (ids tied to
// addresses), 43 (read-only nodes), 44 (items), 45 (several addresses), 46
// (pointers to torrents) and 51 (indexing), as docs/spec/mainline.md found them
// deployed.
//
// Everything travels in datagrams of one bencoded dictionary (KRPC):
//
//	query     d 1:a d 2:id 20:... (arguments) e 1:q 4:ping (2:ro i1e) 1:t 2:.. 1:v 4:.... 1:y 1:q e
//	response  d 2:ip 6:...... 1:r d 2:id 20:... (results) e           1:t 2:.. 1:v 4:.... 1:y 1:r e
//	error     d 1:e l i203e 9:Bad token e 2:ip 6:......               1:t 2:.. 1:v 4:.... 1:y 1:e e
//
// A [Node] holds one socket or several. Each socket is a node of the DHT by
// itself, with an id and a routing table of its own (BEP 32, BEP 45); the
// stores are common. The sockets' readers answer queries in place: a batch of
// datagrams is one step under the node's mutex, without allocation, and one
// write. The procedures ([Node.Lookup], [Node.Announce], [Node.Put],
// [Node.Get]) are blocking functions that ask under the same mutex and wait for
// the replies on channels of their own.
//
// # Size of replies
//
// No reply is longer than 1024 bytes (BEP 32), but for that to a get, which may
// take 1280 if that is what a long value needs (up to 1344 if the querier's
// transaction id is longer than any that is in use). Lists of nodes, peers and samples
// are cut to fit. How much longer a reply may be than the query that provokes it,
// at the worst: 1.3 times for ping and errors, 3.5 for find_node (6 if it asks
// for both families), 9 for get_peers, 10 for sample_infohashes, 15.5 for get, 1
// for announce_peer and put. TestReplyFactor holds these. A source (an IPv4
// address, a /64 of IPv6) gets at most 64 replies a second and 256 in a burst,
// unless its address is private (Config.QueryRate).
//
// Left out on purpose: BEP 50 (publish and subscribe), which nobody deployed:
// messages that carry a topic are dropped.
package mainline
