package secretstream

import (
	"sync"
	"sync/atomic"
	"time"
)

// keepAliveTicks is how many ticks a period has. Keep-alives are sent on the
// ticks of the wall clock, up to one early, so that those of many connections
// share their wake-ups, here and at the peer.
const keepAliveTicks = 50

// untilTick is how long it is to the last tick that is no later than in d.
func untilTick(d, period time.Duration) time.Duration {
	at := time.Now().Add(d).UnixNano()
	return d - time.Duration(at%int64(max(period/keepAliveTicks, 1)))
}

// keepAlive sends an empty message when nothing was written for a while. A
// write only notes the time; the timer finds out when it fires.
type keepAlive struct {
	period atomic.Int64 // time.Duration; 0 is off
	last   atomic.Int64 // time of the last write, since epoch
	epoch  time.Time

	mu      sync.Mutex
	timer   *time.Timer // or nil
	stopped bool        // for ever
}

// SetKeepAlive changes the period of [Config.KeepAlive]; 0 ends it. It can be
// changed until the writing side is closed.
func (c *Conn) SetKeepAlive(d time.Duration) {
	k := &c.keepAlive
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.timer != nil {
		k.timer.Stop()
		k.timer = nil
	}
	k.period.Store(0)
	if d <= 0 || k.stopped {
		return
	}
	c.in.skipEmpty.Store(true)
	if k.epoch.IsZero() {
		k.epoch = time.Now()
	}
	k.last.Store(int64(time.Since(k.epoch)))
	k.period.Store(int64(d))
	k.timer = time.AfterFunc(untilTick(d, d), c.keepAliveDue)
}

// wrote notes that something was sent.
func (k *keepAlive) wrote() {
	if k.period.Load() > 0 {
		k.last.Store(int64(time.Since(k.epoch)))
	}
}

// keepAliveDue runs when the timer fires.
func (c *Conn) keepAliveDue() {
	k := &c.keepAlive
	period := time.Duration(k.period.Load())
	if period == 0 {
		return
	}
	wait := period
	if silent := time.Since(k.epoch) - time.Duration(k.last.Load()); silent < period-period/keepAliveTicks {
		wait = period - silent
	} else if c.out.turn.TryAcquire(1) { // otherwise something is being sent
		if c.out.ready(c.raw) == nil {
			c.writeMessage(nil) // fails for good, or by a deadline that is not ours
		}
		final := c.out.err != nil
		c.out.turn.Release(1)
		if final {
			k.stop()
			return
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.timer != nil {
		k.timer.Reset(untilTick(wait, period))
	}
}

// stop ends keep-alives for good.
func (k *keepAlive) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped = true
	k.period.Store(0)
	if k.timer != nil {
		k.timer.Stop()
		k.timer = nil
	}
}
