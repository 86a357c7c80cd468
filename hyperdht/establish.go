package hyperdht

import (
	"context"
	"time"

	"github.com/warren-dht/warren/noise"
	"github.com/warren-dht/warren/secretstream"
)

// provingTime is how long a peer may take to be heard, and to prove its key, on
// the path that was chosen: UDX gives up a stream whose first packet is
// unacknowledged after 13 s. One that acknowledges and says nothing would else
// keep us waiting for ever. The reference's keep-alive, its first message if it
// has nothing to say, comes after 5 s.
const provingTime = 13 * time.Second

// streamOptions say how the encrypted stream of a link begins.
type streamOptions struct {
	keepAlive         time.Duration
	insecureDatagrams bool // where the peer has no others
	// needsProof: wait for the peer's first message, whatever it is. Who has
	// dialed knows by the handshake that the peer holds its key.
	needsProof bool
}

// establish starts the encrypted stream on the link as soon as there is a path,
// and waits until the peer was heard on it and has proved that it holds the
// session's keys. If it fails the raw stream is destroyed.
func (l *link) establish(ctx context.Context, res noise.Result, o streamOptions) (*Conn, error) {
	select {
	case <-l.attached:
	case <-ctx.Done():
		l.raw.Destroy(nil)
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, provingTime, ErrPathLost)
	defer cancel()
	l.mu.Lock()
	opening, proves := l.opening, l.core.proves
	l.mu.Unlock()
	if opening > 0 {
		select {
		case <-time.After(opening):
		case <-ctx.Done():
		}
	}
	cfg := secretstream.Config{KeepAlive: o.keepAlive, SkipEmpty: true, Prove: proves, MaxMessage: l.maxMessage}
	switch {
	case proves:
		cfg.Datagrams = secretstream.DatagramsSecret
	case o.insecureDatagrams:
		cfg.Datagrams = secretstream.DatagramsInsecure
	}
	sec, err := secretstream.New(l.raw, res, cfg)
	if err != nil {
		l.raw.Destroy(nil)
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { l.raw.Destroy(nil) })
	err = sec.WaitPeer()
	if err == nil {
		if !proves {
			l.establishPath() // the reference takes the first path, too
		}
		if proves || o.needsProof {
			err = sec.WaitProof()
		}
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		sec.Destroy(nil) // its keep-alive would hold on to it
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	if proves {
		l.establishPath()
	}
	l.own(l.candidate().conn)
	return &Conn{Conn: sec, link: l}, nil
}

// establishPath tells the core that the peer is there.
func (l *link) establishPath() {
	l.mu.Lock()
	l.apply(l.core.establish(time.Now(), l.sighting()))
	l.mu.Unlock()
	if l.roams() {
		l.node.mind()
	}
}
