package udx

import "net/netip"

// Sizes of IP packets (docs/spec/udx.md §1.7).
const (
	baseMTU   = 1200
	ceilMTU   = 1500
	overhead4 = 20 + 8 + headerSize
	overhead6 = 40 + 8 + headerSize

	mtuProbes  = 3   // of a size before giving it up
	mtuMaxPad  = 255 // data_offset is one byte
	mtuMinStep = 16  // the search ends when less is left to win
)

// overhead is what IP, UDP and this protocol put before the payload.
func overhead(remote netip.Addr) int {
	if remote.Is6() && !remote.Is4In6() {
		return overhead6
	}
	return overhead4
}

// An mtuSearch looks for the largest packets that the path takes (RFC 8899; §1.8)
// by padding single data packets. It goes up in the largest steps that padding
// allows and halves the rest after failures: the reference's steps of 32 take
// eleven round trips. A loss of a probe is no sign of congestion. A value owned
// by a core.
type mtuSearch struct {
	size    int // known to get through
	ceil    int // known or taken not to be exceeded
	probing int // size of the probe in flight; 0: none
	fails   int // of the next size to probe
	started bool
}

func newMTUSearch() mtuSearch { return mtuSearch{size: baseMTU, ceil: ceilMTU} }

// next returns the size to probe, or 0.
func (m *mtuSearch) next() int {
	if !m.started || m.probing != 0 || m.ceil-m.size < 1 || m.ceil < ceilMTU && m.ceil-m.size < mtuMinStep {
		return 0
	}
	if m.ceil == ceilMTU {
		return min(m.size+mtuMaxPad-3, m.ceil)
	}
	return (m.size + m.ceil) / 2
}

// pad returns by how much to pad a packet of the given size, IP header included,
// to make it the next probe; 0: it is none.
func (m *mtuSearch) pad(size int) int {
	n := m.next()
	if pad := n - size; n != 0 && pad > 0 && pad <= mtuMaxPad {
		return pad
	}
	return 0
}

// sent notes that a probe left.
func (m *mtuSearch) sent(size int) { m.probing = size }

// acked notes that the probe in flight arrived.
func (m *mtuSearch) acked() {
	if m.probing > m.size {
		m.size = m.probing
	}
	m.probing, m.fails = 0, 0
}

// lost notes that the probe in flight did not arrive.
func (m *mtuSearch) lost() {
	if m.probing == 0 {
		return
	}
	if m.fails++; m.fails >= mtuProbes {
		m.ceil, m.fails = m.probing-1, 0
	}
	m.probing = 0
}
