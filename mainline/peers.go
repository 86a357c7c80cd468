package mainline

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/warren-dht/warren/internal/keep"
	"github.com/warren-dht/warren/kad"
)

// Tuning of ours (docs/spec/mainline.md §14, §11, §19).
const (
	maxPeersPerHash = 2000
	scrapeAge       = 30 * time.Second // a large swarm's filters are reused for so long
	scrapeCheap     = 64               // a swarm of so many is scraped each time
	maxScrapes      = 64
	maxSamples      = 32               // info-hashes in a sample, 640 bytes
	sampleAge       = 30 * time.Minute // a sample of a larger store stands for so long
)

// peers are those that others announced here, by info-hash. There is one for
// each family, as the two DHTs share nothing (BEP 32). Bounded in number, in
// age, per info-hash, per source and per network; what a source announces beyond
// its share pushes out its own. The time is store time. Guarded by the node's
// mutex.
type peers struct {
	sets    *keep.Sets[key, netip.AddrPort, seeding, netip.Addr]
	scrapes *keep.Map[key, *scrape, struct{}]

	samples   []byte // the present sample (BEP 51)
	sampledAt time.Time
}

// seeding says that a peer has the whole torrent (BEP 33).
type seeding bool

// A scrape is the pair of filters that a get_peers may ask for (BEP 33).
type scrape struct {
	seeds, peers Filter
	size         int // of the swarm when they were made
}

// newPeers makes an empty store. The function, if there is one, is called with
// every peer that is removed.
func newPeers(limits keep.Limits, removed func(infoHash key, peer netip.AddrPort)) *peers {
	var forget func(key, netip.AddrPort, seeding, keep.Reason)
	if removed != nil {
		forget = func(infoHash key, peer netip.AddrPort, _ seeding, _ keep.Reason) { removed(infoHash, peer) }
	}
	limits.PerTopic = maxPeersPerHash
	return &peers{
		sets:    keep.NewSets[key, netip.AddrPort, seeding, netip.Addr](limits, forget).GroupBy(kad.Subnet),
		scrapes: keep.NewMap[key, *scrape, struct{}](keep.Limits{Entries: maxScrapes, Age: scrapeAge}, nil),
	}
}

// source is whom a stored thing is charged to: an IPv4 address, or the /64 that
// one host of IPv6 commands.
func source(ip netip.Addr) netip.Addr {
	if ip.Is4() {
		return ip
	}
	p, _ := ip.Prefix(64)
	return p.Addr()
}

// announce adds a peer or renews it.
func (p *peers) announce(now time.Time, infoHash key, peer netip.AddrPort, seed bool) {
	p.sets.Put(now, infoHash, peer, seeding(seed), source(peer.Addr()))
}

// size is the number of peers of an info-hash.
func (p *peers) size(now time.Time, infoHash key) int { return p.sets.Size(now, infoHash) }

// sample appends up to n peers, drawn at random, to dst. With noSeed those that
// are still downloading come first (BEP 33).
func (p *peers) sample(dst []netip.AddrPort, now time.Time, infoHash key, n int, noSeed bool, rnd *rand.Rand) []netip.AddrPort {
	end, draw := len(dst)+n, n
	var seeds []netip.AddrPort
	if noSeed {
		draw = p.sets.Size(now, infoHash)
	}
	for peer, seed := range p.sets.Sample(now, infoHash, draw, rnd) {
		switch {
		case noSeed && bool(seed):
			seeds = append(seeds, peer)
		case len(dst) < end:
			dst = append(dst, peer)
		}
	}
	return append(dst, seeds[:min(len(seeds), end-len(dst))]...)
}

// scrape returns the filters of an info-hash, nil if it has no peers. Each
// address in them costs a hash, so those of a large swarm are made anew only
// every scrapeAge.
func (p *peers) scrape(now time.Time, infoHash key) *scrape {
	size := p.sets.Size(now, infoHash)
	if size == 0 {
		return nil
	}
	if f, _, ok := p.scrapes.Get(now, infoHash); ok && size > scrapeCheap && f.size > scrapeCheap {
		return f
	}
	f := &scrape{size: size}
	for peer, seed := range p.sets.Members(now, infoHash) {
		if seed {
			f.seeds.Insert(peer.Addr())
		} else {
			f.peers.Insert(peer.Addr())
		}
	}
	p.scrapes.Put(now, infoHash, f, struct{}{})
	return f
}

// sampleHashes returns info-hashes, idLen bytes each, how many there are in
// all, and for how long the sample stands (BEP 51). A store that fits into one
// sample is shown as it is now, which the interval 0 says.
func (p *peers) sampleHashes(now time.Time, idLen int, rnd *rand.Rand) (samples []byte, num int, interval time.Duration) {
	p.sets.Expire(now)
	num = p.sets.Topics()
	limit := maxSamples * shortID / idLen
	if num > limit && len(p.samples) == limit*idLen && now.Sub(p.sampledAt) < sampleAge {
		return p.samples, num, p.sampledAt.Add(sampleAge).Sub(now)
	}
	p.samples = p.samples[:0]
	for _, k := range p.sets.SampleTopics(now, limit, rnd) {
		p.samples = append(p.samples, k[:idLen]...)
	}
	p.sampledAt = now
	if num <= limit {
		return p.samples, num, 0
	}
	return p.samples, num, sampleAge
}
