package interop

import (
	"math/rand/v2"
	"sync"
	"time"
)

// A Link says what happens to datagrams on their way. Rates are between 0 and
// 1, per datagram and independent of each other.
type Link struct {
	Loss      float64
	Duplicate float64       // one more copy
	Reorder   float64       // held back for ReorderBy, so that later ones overtake
	ReorderBy time.Duration // 0 is 5 ms
	Delay     time.Duration // one way, all datagrams
	Jitter    time.Duration // up to this more; reorders too
	Seed      uint64        // of the luck; 0 is a seed like any other
}

// LinkStats counts what a link did.
type LinkStats struct {
	In, Lost, Duplicated, Reordered int
}

// chance draws the fates of datagrams on one link. It is safe for concurrent use.
type chance struct {
	link  Link
	mu    sync.Mutex
	rand  *rand.Rand
	stats LinkStats
}

func newChance(link Link) *chance {
	if link.ReorderBy == 0 {
		link.ReorderBy = 5 * time.Millisecond
	}
	return &chance{link: link, rand: rand.New(rand.NewPCG(link.Seed, 0))}
}

// fate returns after which delay each copy of a datagram goes on; none is lost.
func (c *chance) fate() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.In++
	if c.rand.Float64() < c.link.Loss {
		c.stats.Lost++
		return nil
	}
	copies := []time.Duration{c.link.Delay}
	if c.rand.Float64() < c.link.Duplicate {
		c.stats.Duplicated++
		copies = append(copies, c.link.Delay)
	}
	for i := range copies {
		if c.link.Jitter > 0 {
			copies[i] += rand.N(c.link.Jitter)
		}
	}
	if c.rand.Float64() < c.link.Reorder {
		c.stats.Reordered++
		copies[0] += c.link.ReorderBy
	}
	return copies
}

func (c *chance) counted() LinkStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}
