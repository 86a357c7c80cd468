package mainline

import (
	"hash/crc32"
	"math/rand/v2"
	"net/netip"
)

// BEP 42: the first 21 bits of a node's id follow from its address.

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	mask4      = [4]byte{0x03, 0x0f, 0x3f, 0xff}
	mask6      = [8]byte{0x01, 0x03, 0x07, 0x0f, 0x1f, 0x3f, 0x7f, 0xff}
)

// secureHead is the CRC of the masked address; only its first 21 bits count.
// Of r, the last byte of the id, only three bits do.
func secureHead(ip netip.Addr, r byte) uint32 {
	var b [8]byte
	n := 4
	if ip = ip.Unmap(); ip.Is4() {
		a := ip.As4()
		for i, m := range mask4 {
			b[i] = a[i] & m
		}
	} else {
		a := ip.As16()
		for i, m := range mask6 {
			b[i] = a[i] & m
		}
		n = 8
	}
	b[0] |= r & 7 << 5
	return crc32.Checksum(b[:n], castagnoli)
}

// secureID derives an id for an address, with the rest at random.
func secureID(ip netip.Addr, rnd *rand.Rand) (k key) {
	randomize(k[:shortID], rnd)
	c := secureHead(ip, k[shortID-1])
	k[0], k[1], k[2] = byte(c>>24), byte(c>>16), byte(c>>8)&0xf8|k[2]&7
	return k
}

// secure reports whether an id of 20 bytes belongs to an address. Private
// addresses are exempt.
func secure(k key, ip netip.Addr) bool {
	if private(ip.Unmap()) {
		return true
	}
	c := secureHead(ip, k[shortID-1])
	return k[0] == byte(c>>24) && k[1] == byte(c>>16) && (k[2]^byte(c>>8))&0xf8 == 0
}

// SecureID derives a node id from an address (BEP 42), random but for the 21
// bits that follow from it and the three that choose among eight.
func SecureID(ip netip.Addr, rnd *rand.Rand) ID {
	return ID{key: secureID(ip, rnd), n: shortID}
}

// IsSecure reports whether a node's id follows from its address (BEP 42).
// Loopback, link-local and private addresses may have any id, and so may nodes
// of a network with ids of another length.
func IsSecure(id ID, ip netip.Addr) bool {
	return id.n != shortID || secure(id.key, ip)
}

func randomize(b []byte, rnd *rand.Rand) {
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
}
