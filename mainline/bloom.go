package mainline

import (
	"crypto/sha1"
	"math"
	"math/bits"
	"net/netip"
)

// A Filter is a Bloom filter of IP addresses (BEP 33): 2048 bits of which each
// address sets two. The union of filters is the OR of their bits. A value; the
// zero value is empty.
type Filter [256]byte

// filterBits is m of BEP 33.
const filterBits = 8 * len(Filter{})

// Insert adds an address.
func (f *Filter) Insert(ip netip.Addr) {
	var h [sha1.Size]byte
	if ip = ip.Unmap(); ip.Is4() {
		a := ip.As4()
		h = sha1.Sum(a[:])
	} else {
		a := ip.As16()
		h = sha1.Sum(a[:])
	}
	for i := 0; i < 4; i += 2 {
		bit := (int(h[i]) | int(h[i+1])<<8) % filterBits
		f[bit/8] |= 1 << (bit % 8)
	}
}

// Union adds all addresses of another filter.
func (f *Filter) Union(other *Filter) {
	for i := range f {
		f[i] |= other[i]
	}
}

// zeros is the number of bits that are not set.
func (f *Filter) zeros() int {
	n := filterBits
	for _, b := range f {
		n -= bits.OnesCount8(b)
	}
	return n
}

// Estimate is the likely number of addresses in the filter. It is 0 for an
// empty one and good for up to some 6,000.
func (f *Filter) Estimate() float64 {
	const m = float64(filterBits)
	c := float64(min(filterBits-1, max(1, f.zeros())))
	if f.zeros() == filterBits {
		return 0
	}
	return math.Log(c/m) / (2 * math.Log(1-1/m))
}
