// Package warren is the root of a Kademlia toolkit in pure Go that speaks the
// deployed networks byte for byte: reach a machine by its public key
// (hyperdht), run commands of your own over a DHT (dhtrpc, and dhtrpc1 for its
// first version), and use the BitTorrent DHT (mainline).
//
// The root holds no code. Start with README.md, then ARCHITECTURE.md.
package warren
