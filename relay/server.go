package relay

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/warren-dht/warren/udx"
)

// Quotas of a Server whose Config says nothing.
const (
	DefaultMaxPairs      = 8192
	DefaultMaxPending    = 8192
	DefaultMaxPerSession = 256
	DefaultMaxPerSource  = 1024
	DefaultPairTimeout   = time.Minute
	DefaultIdleTimeout   = 2 * time.Minute
)

// ErrServerClosed means that the relay has been closed.
var ErrServerClosed = errors.New("relay: server closed")

// Config says what a relay does for others. A number of 0 stands for the
// default, a negative one for no limit.
type Config struct {
	// NewStream makes the relay's own streams: that of the node's [udx.Mux],
	// on whose sockets the clients are.
	NewStream func(udx.StreamConfig) (*udx.Stream, error)

	// MaxPairs is how many pairs are relayed at a time.
	MaxPairs int
	// MaxPending is how many offers wait for their other half.
	MaxPending int
	// MaxPerSession and MaxPerSource are how many offers, pending or relayed,
	// one client's connection, and one IP address, may have.
	MaxPerSession, MaxPerSource int
	// PairTimeout is how long an offer waits.
	PairTimeout time.Duration
	// IdleTimeout is how long a client without any offer keeps its channel.
	// A pair through which nothing passes ends by itself ([udx.Stream.RelayTo]).
	IdleTimeout time.Duration
}

func (c Config) withDefaults() Config {
	for p, d := range map[*int]int{
		&c.MaxPairs:      DefaultMaxPairs,
		&c.MaxPending:    DefaultMaxPending,
		&c.MaxPerSession: DefaultMaxPerSession,
		&c.MaxPerSource:  DefaultMaxPerSource,
	} {
		if *p == 0 {
			*p = d
		} else if *p < 0 {
			*p = int(^uint(0) >> 1)
		}
	}
	if c.PairTimeout == 0 {
		c.PairTimeout = DefaultPairTimeout
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = DefaultIdleTimeout
	}
	return c
}

// Stats count what a relay has done since it started, and what it does now.
type Stats struct {
	Sessions struct{ Accepted, Opened, Closed, Active int }
	// Requested counts offers, Refused those beyond a quota, Cancelled those
	// that were withdrawn, lost their client or have waited too long.
	Pairings struct{ Requested, Refused, Matched, Cancelled, Pending, Active int }
	Streams  struct{ Opened, Closed, Errors, Active int }
}

// A Server is a relay. It is safe for concurrent use.
type Server struct {
	cfg Config

	mu       sync.Mutex
	closed   bool
	sessions map[*Session]struct{}
	pending  map[Token]*pairing
	sources  map[netip.Addr]int // offers by address
	stats    Stats
}

// NewServer returns a relay, which serves the connections given to Accept.
func NewServer(cfg Config) *Server {
	return &Server{
		cfg:      cfg.withDefaults(),
		sessions: make(map[*Session]struct{}),
		pending:  make(map[Token]*pairing),
		sources:  make(map[netip.Addr]int),
	}
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Sessions.Active = st.Sessions.Accepted - st.Sessions.Closed
	st.Pairings.Pending = len(s.pending)
	st.Streams.Active = st.Streams.Opened - st.Streams.Closed
	return st
}

// Close ends all sessions and pairs. The clients' connections stay open.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	open := make([]*Session, 0, len(s.sessions))
	for session := range s.sessions {
		open = append(open, session)
	}
	s.mu.Unlock()
	for _, session := range open {
		session.Close()
	}
}

// count notes an offer from an address. The caller holds the lock.
func (s *Server) count(source netip.Addr) {
	if source.IsValid() {
		s.sources[source]++
	}
}

// uncount undoes count.
func (s *Server) uncount(source netip.Addr) {
	if !source.IsValid() {
		return
	}
	if s.sources[source]--; s.sources[source] == 0 {
		delete(s.sources, source)
	}
}
