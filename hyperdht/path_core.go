package hyperdht

import (
	"net/netip"
	"slices"
	"time"

	"github.com/warren-dht/warren/udp"
)

// A socketPath is a socket of ours and an address of the peer. The zero value is
// none.
type socketPath struct {
	conn   udp.Conn
	remote netip.AddrPort
}

// A candidate is a path that may carry a connection.
type candidate struct {
	socketPath
	kind PathKind
}

// A pathCore chooses the path that carries a connection. It is a plain value:
// candidates, packets, answers and the time go in, decisions come out. Owned by
// its link, under the link's lock.
//
//	             offer                       a better offer, or silence
//	(no path) ----------> current, on trial ----------------------------> current
//	                          |    ^                                         |
//	            establish: the|    | (until it is established a path         | offer or packet
//	      peer proved its key |    |  is changed without a challenge)        | from elsewhere
//	                          v    |                                         v
//	                     established -------------------------------> challenge sent there
//	                          ^                                              |
//	                          |    the answer came back from there,          |
//	                          +---- and the old path is silent or relayed ---+
//
// A peer that proves answers a challenge: eight random bytes, sealed with the
// session's secret. An established connection with it moves only to where an
// answer came from (RFC 9000, sections 8.2 and 9.3), and until then three times
// the bytes that came from an address are the most that goes there. A peer that
// cannot answer (the reference) is never followed; its connection only leaves
// its blind relay for a candidate that the handshake or a punch vouches for.
type pathCore struct {
	proves     bool // the peer answers challenges
	keepsRelay bool // the peer can fall back to the relay, as we can
	nonce      func() [8]byte

	current     candidate // conn is nil: none yet
	valid       bool      // the peer was shown to receive on the current path
	established bool      // the peer was heard, and proved to hold its key
	moves       int       // how often the path has changed

	reserves   []reserve // to be tried while the peer is not established
	challenges []challenge
	lastSeen   socketPath   // where the peer was heard at the last look, if not on the current path
	former     []socketPath // paths that the connection was on, the newest last

	relay      socketPath // of our blind relay; zero: none
	upgradedAt time.Time  // when the connection last left the relay, or was offered it
	fellBackAt time.Time
	told       time.Time // the move that the peer has been told of on the new path
}

// A reserve is a candidate that is tried when its time has come.
type reserve struct {
	candidate
	at time.Time
}

// A challenge is a candidate whose answer is awaited.
type challenge struct {
	candidate
	nonce   [8]byte
	sentAt  time.Time
	repeats int           // still to be sent without a packet from there
	look    time.Time     // when to see to it again
	pause   time.Duration // before the look after that
	arrived bool          // a packet made us ask, not a candidate of our own
}

// Bounds and times of the choice.
const (
	// reserveTime is how long a path may take until the peer is heard on it
	// before another candidate is tried. A peer takes the first path on which it
	// hears us and may close the others: trying the next one too soon can lose
	// both.
	reserveTime = 400 * time.Millisecond
	// migrateAfter is how long the current path must have been silent before an
	// established connection looks elsewhere.
	migrateAfter = 500 * time.Millisecond
	// maxChallenges bounds the candidates that are challenged at once; the oldest
	// gives way.
	maxChallenges = 4
	// challengeGap is the least time between two challenges to one address.
	challengeGap     = 100 * time.Millisecond
	challengeRepeat  = 250 * time.Millisecond // to a candidate of our own
	challengeRepeats = 8
	challengeLife    = 4 * time.Second // of one that a packet has caused
	maxFormerPaths   = 4
	maxReserves      = 16
)

// A pathStep is what the core has decided. The zero value is nothing.
type pathStep struct {
	process    bool // the packet may be processed
	take       bool // current is another path now
	unasked    bool // take: where a packet came from, not a candidate of ours
	validated  bool // current needs no limit any more
	upgraded   bool // it left the relay
	fellBack   bool // it went back to the relay
	challenges []challenge
	nudge      bool // let the peer hear us on the current path
	dropRelay  bool
}

// A sighting is what is known of the peer's packets.
type sighting struct {
	last     socketPath    // by which the last one came
	silence  time.Duration // since then
	inFlight int           // packets that wait for an acknowledgement
}

// hearsOn reports whether the peer was heard on a path within d.
func (s sighting) hearsOn(p socketPath, d time.Duration) bool { return s.last == p && s.silence < d }

// An offer says where a candidate comes from.
type offer uint8

const (
	offered  offer = iota // our own procedures found it
	arrived               // a packet of the stream came from there
	expected              // as arrived, and the peer is known to be at that host
)

// offer takes a candidate. take means that it is the current path now; process,
// that it was so before or is now.
func (p *pathCore) offer(now time.Time, c candidate, how offer, seen sighting) (s pathStep) {
	defer func() { s.unasked = s.take && how != offered }()
	switch {
	case c.conn != nil && c.socketPath == p.relay:
		return pathStep{process: true}
	case c.socketPath == p.current.socketPath:
		return pathStep{process: true}
	case how == arrived && !p.proves:
		return pathStep{}
	case p.current.conn == nil:
		return p.take(now, c)
	case p.established && p.proves:
		if p.current.kind != PathRelayed && seen.hearsOn(p.current.socketPath, migrateAfter) || p.afterFallback(now) {
			return pathStep{}
		}
		return p.challenge(now, c, how != offered)
	case p.current.kind == PathRelayed && c.kind != PathRelayed:
		if p.afterFallback(now) {
			return pathStep{}
		}
		return p.upgrade(now, c)
	case p.established || c.kind == PathRelayed:
		return pathStep{}
	case how == offered:
		if len(p.reserves) < maxReserves {
			p.reserves = append(p.reserves, reserve{c, now.Add(reserveTime)})
		}
		return pathStep{process: true}
	}
	return p.take(now, c)
}

// afterFallback reports whether the connection has gone back to the relay a
// moment ago.
func (p *pathCore) afterFallback(now time.Time) bool {
	return p.current.kind == PathRelayed && !p.fellBackAt.IsZero() && now.Sub(p.fellBackAt) < upgradePause
}

// take makes c the current path, and challenges the peer there unless that is
// not needed: a relay carries packets to nobody but its two clients.
func (p *pathCore) take(now time.Time, c candidate) pathStep {
	p.move(c, c.kind == PathRelayed || !p.proves)
	s := pathStep{process: true, take: true, validated: p.valid}
	if !p.valid {
		s.challenges = p.challenge(now, c, true).challenges
	}
	return s
}

// move makes c the current path.
func (p *pathCore) move(c candidate, valid bool) {
	if p.current.conn != nil {
		p.former = slices.DeleteFunc(p.former, func(x socketPath) bool { return x == p.current.socketPath || x == c.socketPath })
		if len(p.former) == maxFormerPaths {
			p.former = p.former[1:]
		}
		p.former = append(p.former, p.current.socketPath)
	}
	p.current, p.valid = c, valid
	p.moves++
	p.lastSeen = socketPath{}
	p.challenges = slices.DeleteFunc(p.challenges, func(x challenge) bool { return x.socketPath == c.socketPath || valid })
}

// upgrade leaves the relay for c.
func (p *pathCore) upgrade(now time.Time, c candidate) pathStep {
	s := p.take(now, c)
	p.upgradedAt, s.upgraded = now, true
	return s
}

// challenge asks the peer to answer from c.
func (p *pathCore) challenge(now time.Time, c candidate, caused bool) (s pathStep) {
	for i := range p.challenges {
		x := &p.challenges[i]
		if x.socketPath != c.socketPath {
			continue
		}
		if now.Sub(x.sentAt) >= challengeGap {
			x.sentAt = now
			s.challenges = append(s.challenges, *x)
		}
		return s
	}
	x := challenge{candidate: c, nonce: p.nonce(), sentAt: now, arrived: caused, look: now.Add(challengeRepeat), pause: challengeRepeat}
	if !caused {
		x.repeats = challengeRepeats
	}
	if len(p.challenges) == maxChallenges {
		p.challenges = slices.Delete(p.challenges, p.oldest(), p.oldest()+1)
	}
	p.challenges = append(p.challenges, x)
	s.challenges = append(s.challenges, x)
	return s
}

// oldest is the challenge that gives way: never the current path's.
func (p *pathCore) oldest() int {
	for i, x := range p.challenges {
		if x.socketPath != p.current.socketPath {
			return i
		}
	}
	return 0
}

// answered takes the peer's answer to a challenge and where it came from.
func (p *pathCore) answered(now time.Time, from socketPath, nonce [8]byte, seen sighting) (s pathStep) {
	i := slices.IndexFunc(p.challenges, func(x challenge) bool { return x.nonce == nonce })
	if i < 0 {
		return pathStep{} // late
	}
	x := p.challenges[i]
	p.challenges = slices.Delete(p.challenges, i, i+1)
	c := x.candidate
	switch {
	case x.socketPath != from:
		return pathStep{} // a third party passed the challenge on to the peer
	case from == p.current.socketPath:
		p.valid = true
		return pathStep{validated: true}
	case !p.established:
		return pathStep{}
	case p.current.kind == PathRelayed:
		p.upgradedAt, s.upgraded = now, true
	case seen.hearsOn(p.current.socketPath, migrateAfter):
		return pathStep{}
	default:
		if x.arrived {
			c.kind = p.current.kind // the peer's address has changed, not the kind
		}
	}
	p.move(c, true)
	s.process, s.take, s.validated, s.nudge = true, true, true, true
	return s
}

// establish notes that the peer has proved its key. Its first packets may have
// come by another path than the current one.
func (p *pathCore) establish(now time.Time, seen sighting) (s pathStep) {
	p.established = true
	p.reserves = nil
	if !p.proves {
		return s
	}
	if !p.valid {
		s = p.challenge(now, p.current, true)
	}
	if p.strayed(seen) {
		s.challenges = append(s.challenges, p.challenge(now, candidate{seen.last, p.current.kind}, true).challenges...)
	}
	return s
}

// answers reports whether a challenge of the peer that came on a path is to be
// answered: on those that the connection is or was on, and on candidates of our
// own. Otherwise a third party could pass challenges that were sent to it on to
// us, and our answers back.
func (p *pathCore) answers(from socketPath) bool {
	return from == p.current.socketPath || from == p.relay || slices.Contains(p.former, from) ||
		slices.ContainsFunc(p.challenges, func(x challenge) bool { return x.socketPath == from && !x.arrived })
}

// strayed reports whether the peer was last heard elsewhere than on the current
// path.
func (p *pathCore) strayed(seen sighting) bool {
	return seen.last.conn != nil && seen.last != p.current.socketPath && seen.last != p.relay
}

// useRelay takes the path through our blind relay: as the first one, or in
// reserve.
func (p *pathCore) useRelay(now time.Time, relay socketPath) (s pathStep) {
	p.relay = relay
	if p.current.conn == nil {
		return p.take(now, candidate{relay, PathRelayed})
	}
	p.upgradedAt = now
	return s
}

// tick takes what was seen of the peer. It is called at deadline, and every now
// and then.
func (p *pathCore) tick(now time.Time, seen sighting) (s pathStep) {
	if p.current.conn == nil {
		return s
	}
	if len(p.reserves) > 0 && !now.Before(p.reserves[0].at) {
		c := p.reserves[0].candidate
		p.reserves = p.reserves[1:]
		if p.current.kind != PathRelayed && c.socketPath != p.current.socketPath {
			return p.take(now, c)
		}
	}
	p.repeat(now, seen, &s)
	if p.current.kind == PathRelayed {
		return s
	}
	if p.proves || p.relay.conn == nil && p.upgradedAt.IsZero() {
		p.comeBack(now, seen, &s)
	}
	if p.relay.conn != nil {
		p.watchRelay(now, seen, &s)
	}
	return s
}

// repeat sends challenges again. To an address that did not send anything itself
// since the last one, nothing goes, unless we have chosen it.
func (p *pathCore) repeat(now time.Time, seen sighting, s *pathStep) {
	p.challenges = slices.DeleteFunc(p.challenges, func(x challenge) bool {
		return x.socketPath != p.current.socketPath && x.repeats == 0 && now.Sub(x.sentAt) >= challengeLife
	})
	for i := range p.challenges {
		x := &p.challenges[i]
		if now.Before(x.look) {
			continue
		}
		again := x.repeats > 0
		switch {
		case again:
			x.repeats--
		case x.socketPath != p.current.socketPath:
			x.pause = challengeLife
		case seen.hearsOn(x.socketPath, now.Sub(x.sentAt)):
			again, x.pause = true, challengeRepeat
		default:
			x.pause = min(2*x.pause, 2*time.Second)
		}
		if again {
			x.sentAt = now
			s.challenges = append(s.challenges, *x)
		}
		x.look = now.Add(x.pause)
	}
}

// comeBack looks for a peer that was heard on a path that the connection was on
// before: the stream takes packets from there without asking.
func (p *pathCore) comeBack(now time.Time, seen sighting, s *pathStep) {
	was := p.lastSeen
	p.lastSeen = socketPath{}
	if !p.established || !p.strayed(seen) {
		return
	}
	c := candidate{seen.last, p.current.kind}
	if p.proves {
		s.challenges = append(s.challenges, p.challenge(now, c, true).challenges...)
		return
	}
	// Without challenges the peer counts as back when the last packet came that
	// way at two looks.
	if was != seen.last {
		p.lastSeen = seen.last
	} else if slices.Contains(p.former, seen.last) {
		moved := p.take(now, c)
		moved.challenges = append(s.challenges, moved.challenges...)
		*s = moved
	}
}

// watchRelay decides what becomes of the relay beside another path: it is
// dropped when the peer was heard on that path and does not keep it either, and
// is gone back to when the path falls silent.
func (p *pathCore) watchRelay(now time.Time, seen sighting, s *pathStep) {
	since := now.Sub(p.upgradedAt)
	heard := seen.hearsOn(p.current.socketPath, since)
	if p.told != p.upgradedAt {
		// The peer drops the relay only when it hears us on the path, too.
		s.nudge = true
		if heard {
			p.told = p.upgradedAt
		}
	}
	switch {
	case heard && p.established && !p.keepsRelay:
		s.dropRelay = true
	case since <= fallbackAfter:
	case seen.hearsOn(p.relay, relayWatchTick), seen.silence > fallbackAfter && seen.inFlight > 0:
		back := p.take(now, candidate{p.relay, PathRelayed})
		p.fellBackAt, back.fellBack, back.nudge = now, true, false
		*s = back
	}
}

// deadline is when tick must be called next; zero is never.
func (p *pathCore) deadline() (at time.Time) {
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if len(p.reserves) > 0 {
		sooner(p.reserves[0].at)
	}
	for _, x := range p.challenges {
		sooner(x.look)
	}
	return at
}
