// Package wan is one direction of a link in user space: a rate, a delay, a queue
// that drops what does not fit, and random loss.
package wan

import (
	"bytes"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// A Config says what a link does to packets.
type Config struct {
	Rate  float64       // bits a second
	Delay time.Duration // after the last bit has left
	Queue float64       // bytes that may wait to leave
	Loss  float64       // probability
	Extra int           // bytes that a packet has beside those that are put
}

// A Link carries packets one way. One goroutine puts, another runs it.
type Link struct {
	Config
	rand    *rand.Rand
	free    time.Time // when the last bit of the queue will have left
	flying  chan packet
	dropped atomic.Int64
}

// A packet is on its way until its time.
type packet struct {
	b  []byte
	at time.Time
}

// New returns a link. Links of different seeds have different luck.
func New(c Config, seed uint64) *Link {
	return &Link{Config: c, rand: rand.New(rand.NewPCG(seed, 11)), flying: make(chan packet, 1<<16)}
}

// Put sends a packet on its way, or drops it. It keeps a copy.
func (l *Link) Put(b []byte) {
	now := time.Now()
	if l.free.Before(now) {
		l.free = now
	}
	if l.free.Sub(now).Seconds()*l.Rate/8 > l.Queue {
		l.dropped.Add(1)
		return
	}
	l.free = l.free.Add(time.Duration(float64(len(b)+l.Extra) * 8 / l.Rate * 1e9))
	if l.rand.Float64() < l.Loss {
		l.dropped.Add(1)
		return
	}
	l.flying <- packet{bytes.Clone(b), l.free.Add(l.Delay)}
}

// Run delivers packets at their times, for ever.
func (l *Link) Run(send func([]byte)) {
	for p := range l.flying {
		time.Sleep(time.Until(p.at))
		send(p.b)
	}
}

// Dropped counts the packets that were lost or found no room.
func (l *Link) Dropped() int64 { return l.dropped.Load() }
