package mainline

import (
	"encoding/binary"
	"math"

	"github.com/warren-dht/warren/kad"
)

// A sizer estimates how many nodes a network has from how near the nearest
// nodes to a target are: if n ids are spread evenly over the circle of 2^160,
// the i-th nearest to a point lies at a distance of about i/(n+1) of it. Each
// finished lookup gives an estimate, and the logarithm of them is averaged, the
// latest weighing most. The zero value is ready. Guarded by the node's mutex.
type sizer struct {
	log     float64
	lookups int
}

// sizeWeight is what the latest lookup weighs once there were many.
const sizeWeight = 1.0 / 32

// add learns from the nearest nodes to a target, nearest first.
func (s *sizer) add(target key, closest []point) {
	if len(closest) < K {
		return
	}
	// The least squares of d(i) = i/(n+1) over the ranks.
	var squares, products float64
	for i, c := range closest {
		rank := float64(i + 1)
		squares += rank * rank
		products += rank * fraction(kad.Distance(target, c.ID))
	}
	if products == 0 {
		return
	}
	estimate := math.Log(squares / products)
	s.lookups++
	s.log += (estimate - s.log) * max(sizeWeight, 1/float64(s.lookups))
}

// fraction reads a distance as a part of the whole circle.
func fraction(d key) float64 {
	return float64(binary.BigEndian.Uint64(d[:8])) / (1 << 32) / (1 << 32)
}

// NetworkSize estimates how many nodes the network of IPv4 and that of IPv6
// have, from the lookups of this node so far: the more, the better. It is 0
// where nothing is known, and for networks of less than eight nodes.
func (n *Node) NetworkSize() (ipv4, ipv6 int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.size[0].estimate(), n.size[1].estimate()
}

func (s *sizer) estimate() int {
	if s.lookups == 0 {
		return 0
	}
	return int(math.Round(math.Exp(s.log))) // of nodes other than this one, and this one
}
