package hyperdht

import (
	"time"

	"github.com/warren-dht/warren/nat"
)

// Constants of punching (spec §2.4, §7.4).
const (
	lowTTL     = 5 // opens our NAT and dies on the way
	maxReopens = 3
)

// Tuning of ours. The reference sends 1,750 random probes 20 ms apart, to 256
// sockets; what they search is a birthday collision, so the rate is the speed.
// With more sockets a reference that probes finds one sooner; it does so for 35
// s. Its ten punches to a known address are a second apart, and it asks one
// relay after the other.
const (
	birthdaySockets = 384 // a server has to leave some for others
	clientSockets   = 448
	birthdayPace    = 20 * time.Millisecond // of keeping them open
	birthdayTime    = 36 * time.Second
	randomProbes    = 3500
	randomPace      = 4 * time.Millisecond

	sampleTime    = 600 * time.Millisecond // to answer a repeated ping
	sampleStagger = 200 * time.Millisecond
	maxSamples    = 8

	responderWait   = 250 * time.Millisecond
	exchangeStagger = 200 * time.Millisecond // before another relay is tried, too
)

var (
	// fastPauses are those before the repetitions of a punch to a client that
	// has opened its NAT.
	fastPauses = [...]time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond}
	// steadyPauses are those after the punches to a known address.
	steadyPauses = [...]time.Duration{
		100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond, 400 * time.Millisecond, 500 * time.Millisecond,
		700 * time.Millisecond, time.Second, time.Second, time.Second, time.Second,
	}
)

// A strategy is how one side punches.
type strategy int

const (
	cannotPunch  strategy = iota
	punchSteady           // each side knows the other's address: a few punches to it
	punchRandom           // the other's port is random: probe random ports of its host
	punchManyWay          // our port is random: probe its address from many sockets
)

// planPunch is the decision matrix (spec §7.4): what the side with the class
// own does to reach the side with the class remote. Open counts as consistent.
func planPunch(own, remote nat.Class) strategy {
	consistent := func(c nat.Class) bool { return c == nat.Consistent || c == nat.Open }
	switch {
	case consistent(own) && consistent(remote):
		return punchSteady
	case consistent(own) && remote == nat.Random:
		return punchRandom
	case own == nat.Random && consistent(remote):
		return punchManyWay
	}
	return cannotPunch
}

// unstable reports whether a puncher should try its luck with another socket:
// it knows nothing, or both sides are random and a punch is hopeless.
func unstable(own, remote nat.Class) bool {
	return own == nat.Unknown || own == nat.Random && remote == nat.Random
}
