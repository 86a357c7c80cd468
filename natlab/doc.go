// Package natlab is a laboratory of real NATs: network namespaces of one Linux
// machine, joined by veth pairs, with the rules of nftables between them. Real
// processes run in it, and sockets of the test's own process live in it.
//
//	host -- box --\
//	host --/       core -- public host (any number of addresses)
//	host -- box --/
//
// The core is a plain router, "the internet". Behind each box hang one or two
// private networks; its [Class] says what it does to UDP. The classes, the
// addresses and the rules are those with which the reference was measured
// (docs/spec/hyperdht-connect.md §16). Addresses look public, but nothing leaves
// the machine.
//
// It needs root, ip (iproute2) and nft (nftables). Without them tests are
// skipped, or fail where WARREN_TEST_ALL=1 is set.
package natlab
