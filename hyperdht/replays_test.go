package hyperdht

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/store"
)

// A first message that was opened once is not opened again, whether it led to a
// connection or nowhere: minutes later, when nothing else remembers it, and after a
// restart with a store. Another of the same client is.
func TestFirstMessagesAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		defer w.close()
		attacker := w.ready(w.net.Host(), Config{Firewalled: isFalse()})
		defer attacker.Close()
		key, host, dir := GenerateKeyPair(), w.net.Host(), t.TempDir()
		asked := 0
		cfg := ListenConfig{KeyPair: &key, Allow: func(context.Context, Incoming) error { asked++; return nil }}
		start := func() (*Node, func()) {
			db, err := store.Open(dir, store.Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			n := w.ready(host, Config{Firewalled: isFalse(), Store: db})
			w.listen(n, cfg)
			return n, func() { n.Close(); db.Close() }
		}
		say := func(n *Node, first []byte) (asks int) {
			before := asked
			sendHandshake(attacker, n.rpc.PublicAddr(), key.Public, handshakeMessage{mode: fromClient, noise: first})
			time.Sleep(time.Minute) // the handshake and what remembers its answer are over
			return asked - before
		}
		first := firstMessageTo(t, attacker, key.Public)
		server, stop := start()
		if say(server, first) != 1 {
			t.Fatal("Allow is not asked about a first message")
		}
		if say(server, first) != 0 || server.Stats().Replays != 1 {
			t.Errorf("Allow is asked about a copy; %d replays are counted", server.Stats().Replays)
		}
		c, err := attacker.Dial(w.ctx(time.Minute), key.Public)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		stop()
		server, stop = start()
		if say(server, first) != 0 || server.Stats().Replays != 1 {
			t.Errorf("Allow is asked about a copy after a restart; %d replays are counted", server.Stats().Replays)
		}
		if say(server, firstMessageTo(t, attacker, key.Public)) != 1 {
			t.Error("Allow is not asked about another message of the same client")
		}
		stop()
	})
}

// The memory is bounded, and one address that fills it pushes out its own.
func TestFirstMessagesAreBounded(t *testing.T) {
	s := newStorage(StoreLimits{}, nil, nil)
	now := time.Unix(1e9, 0)
	alice, mallory := netip.MustParseAddrPort("8.8.8.8:1000"), netip.MustParseAddrPort("9.9.9.9:1000")
	s.noteFirstMessage(now, [32]byte{1}, alice)
	for i := range 3 * maxFirstMessages {
		s.noteFirstMessage(now, [32]byte{2, byte(i), byte(i >> 8), byte(i >> 16)}, mallory)
	}
	if n := s.firstMessages.Len(); n > maxFirstMessages {
		t.Errorf("%d first messages are remembered", n)
	}
	if !s.replayed(now, [32]byte{1}) {
		t.Error("one address has pushed out another's")
	}
	for range 30 * 60 {
		now = now.Add(time.Minute)
		s.expire(now)
	}
	if n := s.firstMessages.Len(); n != 0 {
		t.Errorf("%d are left after 30 hours", n)
	}
}
