package dhtrpc

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/udp"
)

// Sockets of others can be served by a node: its requests leave there, replies
// are matched, requests are answered there, without an id.
func TestForeignSocket(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 3)
		h := tn.net.Host()
		n := tn.add(Config{Network: h, Ephemeral: Never})
		conn, err := h.Listen(netip.AddrPort{})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { udp.Serve(conn, n); close(done) }()
		defer func() { conn.Close(); <-done }()
		r, err := n.Ping(t.Context(), tn.addr(), WithConn(conn), NoRetry())
		if err != nil || r.To.Port() != conn.LocalAddr().Port() || r.Conn != conn {
			t.Errorf("ping: %+v, %v", r, err)
		}
		r, err = tn.first.Ping(t.Context(), netip.AddrPortFrom(h.Addr(), conn.LocalAddr().Port()))
		if err != nil || r.FromID != nil {
			t.Errorf("asked there: %+v, %v", r, err)
		}
		if rest := n.HandleBatch(conn, []udp.Datagram{{Payload: []byte{0}}, {Payload: []byte{3}}, {Payload: []byte{0xff, 1, 2}}}); len(rest) != 3 {
			t.Errorf("claimed %d datagrams that are not the node's", 3-len(rest))
		}
	})
}

func TestPings(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 2)
		n := tn.nodes[1]
		if r, err := n.Ping(t.Context(), tn.addr(), WithSize(1000)); err != nil || r.FromID == nil || r.RTT <= 0 {
			t.Errorf("ping: %+v, %v", r, err)
		}
		began := time.Now()
		if r, err := n.DelayedPing(t.Context(), tn.addr(), 3*time.Second); err != nil || r.Err() != nil || r.RTT < 3*time.Second {
			t.Errorf("delayed ping: %+v, %v", r, err)
		}
		if d := time.Since(began); d > 3500*time.Millisecond {
			t.Errorf("took %v", d)
		}
		if s := tn.first.Stats().DelayedPing; s.Served != 1 {
			t.Errorf("asked %d times", s.Served)
		}
		if _, err := n.DelayedPing(t.Context(), tn.addr(), 11*time.Second); !errors.Is(err, ErrDelayTooLong) {
			t.Errorf("too long: %v", err)
		}
		r, err := n.PingNAT(t.Context(), tn.addr(), n.ServerConn().LocalAddr().Port(), WithConn(n.ClientConn()))
		if err != nil || r.To.Port() != n.ServerConn().LocalAddr().Port() || r.Conn != n.ServerConn() {
			t.Errorf("NAT ping: %+v, %v", r, err)
		}
		if _, err := n.Ping(t.Context(), netip.MustParseAddrPort("[::1]:5")); !errors.Is(err, ErrBadAddress) {
			t.Errorf("IPv6: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := n.Ping(ctx, tn.addr()); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

func TestSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 2)
		_, dead := tn.deaf()
		reason := errors.New("reason")
		for _, why := range []error{reason, nil} {
			s := tn.first.NewSession()
			errs := make(chan error)
			for range 3 {
				go func() {
					_, err := tn.first.Request(t.Context(), dead, Message{Command: 1}, WithSession(s))
					errs <- err
				}()
			}
			synctest.Wait()
			s.Close(why)
			want := why
			if why == nil {
				want = ErrSessionClosed
			}
			for range 3 {
				if err := <-errs; !errors.Is(err, want) {
					t.Errorf("error %v, want %v", err, want)
				}
			}
			s.Close(errors.New("later"))
			if _, err := tn.first.Request(t.Context(), dead, Message{}, WithSession(s)); !errors.Is(err, want) {
				t.Errorf("a request in a closed session: %v", err)
			}
			if err := tn.first.FindNode(ID{}, QueryOptions{Session: s}).Run(t.Context()); !errors.Is(err, want) {
				t.Errorf("a query in a closed session: %v", err)
			}
			foreign := tn.add(Config{}).NewSession()
			if _, err := tn.first.Ping(t.Context(), dead, WithSession(foreign)); !errors.Is(err, errForeignSession) {
				t.Errorf("a request in another node's session: %v", err)
			}
			if err := tn.first.FindNode(ID{}, QueryOptions{Session: foreign}).Run(t.Context()); !errors.Is(err, errForeignSession) {
				t.Errorf("a query in another node's session: %v", err)
			}
		}
	})
}

// A relayed request is answered by a third node, to the first one.
func TestRelay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		var end netip.AddrPort
		last := tn.add(Config{Ephemeral: Never, Handler: HandlerFunc(func(r *Request) bool {
			if r.Token != nil {
				t.Error("a relayed request has a token")
			}
			first := netip.MustParseAddrPort(string(r.Value))
			r.Reply([]byte("from the end"), To(first))
			return true
		})})
		end = last.PublicAddr()
		middle := tn.add(Config{Ephemeral: Never, Handler: HandlerFunc(func(r *Request) bool {
			r.Relay(end, []byte(r.From.String()))
			return true
		})})
		client := tn.add(Config{})
		r, err := client.Request(t.Context(), middle.PublicAddr(), Message{Command: 5, Value: []byte("x")})
		if err != nil || r.From != end || string(r.Value) != "from the end" || r.FromID == nil {
			t.Errorf("reply %+v, %v", r, err)
		}
	})
}

// A request can be answered later, from another goroutine, once.
func TestDetach(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		held := make(chan *Pending, 10)
		n := tn.add(Config{Handler: HandlerFunc(func(r *Request) bool {
			held <- r.Detach()
			if err := r.Reply(nil); err != ErrAnswered {
				t.Errorf("a detached request was answered: %v", err)
			}
			return true
		})})
		to := n.ServerConn().LocalAddr().Port()
		at := netip.AddrPortFrom(n.LocalAddr().Addr(), to)
		go func() {
			time.Sleep(300 * time.Millisecond)
			p := <-held
			if err := p.Reply(p.Value, WithoutToken()); err != nil {
				t.Error(err)
			}
			if err := p.Error(5); err != ErrAnswered {
				t.Errorf("answered twice: %v", err)
			}
			if err := p.Relay(tn.addr(), nil); err != nil {
				t.Error(err)
			}
		}()
		target := ID{1}
		r, err := tn.first.Request(t.Context(), at, Message{Command: 5, Target: &target, Value: []byte("later")})
		if err != nil || string(r.Value) != "later" || r.Token != nil || r.RTT < 300*time.Millisecond {
			t.Errorf("reply %+v, %v", r, err)
		}
		go tn.first.Request(t.Context(), at, Message{Command: 5}, NoRetry())
		p := <-held
		n.Close()
		if err := p.Reply(nil); !errors.Is(err, ErrClosed) {
			t.Errorf("answered by a closed node: %v", err)
		}
	})
}

// A detached request knows its node as long as it is kept, from any goroutine.
func TestDetachedRequestKnowsItsNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 2)
		held := make(chan *Pending, 1)
		n := tn.add(Config{Ephemeral: Never, Handler: HandlerFunc(func(r *Request) bool { held <- r.Detach(); return true })})
		go tn.first.Request(t.Context(), n.PublicAddr(), Message{Command: 5})
		p := <-held
		want, _ := n.ID()
		for range 2 {
			if id, ok := p.NodeID(); !ok || id != want {
				t.Errorf("id %v %v, want %v", id, ok, want)
			}
			if !p.Knows(tn.addr()) || p.Knows(netip.MustParseAddrPort("60.0.0.1:1")) || p.Knows(netip.AddrPort{}) {
				t.Error("it does not know whom its node knows")
			}
			p.Reply(nil)
		}
	})
}

// What a handler has answered is not answered a second time, whatever the
// handler returns. An error code that cannot be written is refused. A token
// speaks for the requester, not for another address that is answered.
func TestAnswersOfHandlers(t *testing.T) {
	tc := newTestCore(t, Config{})
	var refused []error
	tc.c.cfg.Handler = HandlerFunc(func(r *Request) bool {
		switch r.Command {
		case 1:
			r.Reply([]byte("x"))
		case 2:
			r.Detach()
		case 3:
			refused = append(refused, r.Error(1<<53))
			r.Error(1<<53 - 1)
		case 4:
			refused = append(refused, r.Reply(make([]byte, 1300), To(netip.MustParseAddrPort("60.0.0.2:5000"))))
			r.Reply(make([]byte, 1300))
		}
		return false
	})
	const from = "60.0.0.1:5000"
	token := tc.c.secrets.Issue(tc.c.now, netip.MustParseAddr("60.0.0.1"))
	for command, want := range []struct {
		code  ErrorCode
		value int
	}{{UnknownCommand, 0}, {OK, 1}, {}, {1<<53 - 1, 0}, {OK, 1300}} {
		tc.in(from, (&request{to: tc.c.server.LocalAddr(), command: uint64(command), token: &token}).append(nil))
		sent := tc.out()
		if command == 2 {
			if len(sent) != 0 {
				t.Errorf("a detached request was answered %d times", len(sent))
			}
			continue
		}
		if len(sent) != 1 {
			t.Fatalf("command %d was answered %d times", command, len(sent))
		}
		m, err := parseReply(sent[0].Payload)
		if err != nil || ErrorCode(m.code) != want.code || len(m.value) != want.value || sent[0].Peer.String() != from {
			t.Errorf("command %d: error %d, %d bytes to %v, %v", command, m.code, len(m.value), sent[0].Peer, err)
		}
	}
	if len(refused) != 2 || refused[0] != ErrTooLarge || refused[1] != ErrTooLarge || tc.c.stats.Refused.Panics != 0 {
		t.Errorf("refused with %v, %d panics", refused, tc.c.stats.Refused.Panics)
	}
}

// A handler that panics answers with an error and is logged; the node lives on.
func TestHandlerPanics(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		var log bytes.Buffer
		n := tn.add(Config{Ephemeral: Never, Logger: slog.New(slog.NewTextHandler(&log, nil)), Handler: HandlerFunc(func(r *Request) bool {
			switch string(r.Value) {
			case "before":
				panic("oh no")
			case "after":
				r.Reply([]byte("x"))
				panic("oh no")
			}
			r.Reply([]byte("fine"))
			return true
		})})
		ask := func(v string) Reply {
			t.Helper()
			r, err := tn.first.Request(t.Context(), n.PublicAddr(), Message{Command: 5, Value: []byte(v)})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		if r := ask("before"); r.Error != UnknownCommand {
			t.Errorf("reply %+v", r)
		}
		if r := ask("after"); string(r.Value) != "x" || r.Error != OK {
			t.Errorf("reply %+v", r)
		}
		if r := ask(""); string(r.Value) != "fine" {
			t.Errorf("reply %+v", r)
		}
		synctest.Wait() // the handler has answered before it panics
		if s := n.Stats(); s.Refused.Panics != 2 || strings.Count(log.String(), "oh no") != 2 || strings.Count(log.String(), "request_test.go") < 2 {
			t.Errorf("%d panics counted, log %q", s.Refused.Panics, log.String())
		}

		// A stranger who makes it panic again and again does not fill the log.
		log.Reset()
		for range 100 {
			ask("before")
		}
		time.Sleep(alarmPeriod)
		ask("before")
		synctest.Wait()
		if s := n.Stats(); s.Refused.Panics != 103 || strings.Count(log.String(), "oh no") != 2 {
			t.Errorf("%d panics counted, %d logged", s.Refused.Panics, strings.Count(log.String(), "oh no"))
		}
	})
}

// A stale token draws error 2 and a fresh one; the request does not reach the
// handler. docs/spec/dht-rpc.md §3.
func TestTokens(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		h := new(counter)
		n := tn.add(Config{Ephemeral: Never, Handler: h})
		ask := func(token *[32]byte) Reply {
			t.Helper()
			r, err := tn.first.Request(t.Context(), n.PublicAddr(), Message{Command: 5, Token: token})
			if err != nil || r.Token == nil {
				t.Fatalf("%+v, %v", r, err)
			}
			return r
		}
		first := ask(nil)
		time.Sleep(7 * time.Second)
		if r := ask(first.Token); r.Error != OK || h.committed.Load() != 1 {
			t.Errorf("seven seconds later: %+v", r)
		}
		time.Sleep(9 * time.Second)
		asked := h.asked.Load()
		r := ask(first.Token)
		if !errors.Is(r.Err(), InvalidToken) || h.asked.Load() != asked {
			t.Errorf("sixteen seconds later: %+v", r)
		}
		if r := ask(r.Token); r.Error != OK || h.committed.Load() != 2 {
			t.Errorf("with the fresh token: %+v", r)
		}
	})
}

// A reply that is too large loses closer nodes first, then is refused, unless
// the requester has shown with a token that it is there.
func TestReplySize(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 30)
		size, failed := 0, error(nil)
		n := tn.add(Config{Ephemeral: Never, Handler: HandlerFunc(func(r *Request) bool {
			if failed = r.Reply(make([]byte, size)); failed != nil {
				r.Error(99)
			}
			return true
		})})
		target := ID{1}
		ask := func(token *[32]byte) Reply {
			t.Helper()
			r, err := tn.first.Request(t.Context(), n.PublicAddr(), Message{Command: 5, Target: &target, Token: token})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		size = 1000
		r := ask(nil)
		if len(r.Value) != 1000 || len(r.Closer()) != 20 {
			t.Errorf("%d bytes, %d closer nodes", len(r.Value), len(r.Closer()))
		}
		size = 1100
		if r := ask(nil); len(r.Value) != 1100 || len(r.Closer()) != (DefaultMaxReply-headerSize-64-1-3-1100)/6 {
			t.Errorf("%d bytes, %d closer nodes", len(r.Value), len(r.Closer()))
		}
		size = 1300
		if r := ask(nil); r.Error != 99 || failed != ErrTooLarge {
			t.Errorf("%+v, %v", r, failed)
		}
		if r := ask(r.Token); len(r.Value) != 1300 || failed != nil {
			t.Errorf("with a token: %d bytes, %v", len(r.Value), failed)
		}
		size = 3000
		if r := ask(r.Token); r.Error != 99 {
			t.Errorf("%d bytes left", len(r.Value))
		}
		if s := n.Stats().Refused.TooLarge; s != 2 {
			t.Errorf("%d refusals counted", s)
		}
	})
}

func TestRTTStats(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 30)
		s, err := tn.nodes[5].RTTStats(t.Context())
		if err != nil || s.Answers < K || s.Failures != 0 || s.All.Replies != s.Answers || s.Closest.Replies != K {
			t.Errorf("%+v, %v", s, err)
		}
		if s.All.RTT < 10*time.Millisecond || s.Closest.CloserNodes < 10 {
			t.Errorf("%+v", s)
		}
		tn.nodes[5].Close()
		if _, err := tn.nodes[5].RTTStats(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("of a closed node: %v", err)
		}
	})
}

// A reply may leave through another socket; it shows our id only if that is the
// server one.
func TestReplyVia(t *testing.T) {
	tc := newTestCore(t, Config{})
	own := &nameConn{netip.MustParseAddrPort("127.0.0.1:41003")}
	via := udp.Conn(own)
	tc.c.cfg.Handler = HandlerFunc(func(r *Request) bool {
		if id, ok := r.NodeID(); ok != !tc.c.ephemeral || ok && id != tc.c.table.Own() {
			t.Errorf("handler sees id %v %v", id, ok)
		}
		if r.Command == 1 {
			return r.Reply(nil, Via(via)) == nil
		}
		if err := r.Reply(nil, To(netip.MustParseAddrPort("[::1]:5"))); err != ErrBadAddress {
			t.Errorf("to an IPv6 address: %v", err)
		}
		if err := r.Relay(netip.AddrPort{}, nil); err != ErrBadAddress {
			t.Errorf("relay to nowhere: %v", err)
		}
		if err := r.Relay(r.From, make([]byte, MaxMessage)); err != ErrTooLarge {
			t.Errorf("relay of too much: %v", err)
		}
		return r.Relay(r.From, []byte("x"), Via(via)) == nil
	})
	tc.c.ephemeral = false
	for command := range uint64(3) {
		tc.in(peer, (&request{to: tc.c.server.LocalAddr(), command: command}).append(nil))
		o := tc.c.out.items
		if last := o[len(o)-1]; last.conn != via || last.peer.String() != peer {
			t.Errorf("command %d: left through %v to %v", command, last.conn, last.peer)
		}
		for _, d := range tc.out() {
			m, err := parseReply(d.Payload)
			if m.id != nil && err == nil {
				t.Error("an id on a socket of our own")
			}
		}
	}
	via = tc.c.server
	tc.in(peer, (&request{to: tc.c.server.LocalAddr(), command: 1}).append(nil))
	if m, err := parseReply(tc.out()[0].Payload); err != nil || m.id == nil {
		t.Errorf("no id on the server socket: %v", err)
	}
}

func TestRequestOptions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 3)
		_, dead := tn.deaf()
		n := tn.nodes[1]
		n.AddNode(dead)
		lists := func() bool {
			return slices.ContainsFunc(n.Closest(IDOf(dead), 1), func(c Contact) bool { return c.Addr == dead })
		}
		if !lists() {
			t.Fatal("not added")
		}
		began := time.Now()
		_, err := n.Ping(t.Context(), dead, WithTimeout(200*time.Millisecond), WithRetries(1))
		if d := time.Since(began); !errors.Is(err, ErrTimeout) || d != 400*time.Millisecond {
			t.Errorf("%v after %v, want a timeout after 400 ms", err, d)
		}
		if !lists() {
			t.Error("evicted by a request without an id")
		}
		if _, err := n.Ping(t.Context(), dead, NoRetry(), WithID(IDOf(dead))); err == nil || lists() {
			t.Errorf("not evicted by a request with its id: %v", err)
		}
		if err := n.AddNode(netip.MustParseAddrPort("[::1]:5")); !errors.Is(err, ErrBadAddress) {
			t.Errorf("added an IPv6 address: %v", err)
		}
		if h := n.Health(); !h.Online || h.Degraded || !h.Cold {
			t.Errorf("health %+v", h)
		}
	})
}

func TestErrorTexts(t *testing.T) {
	for code, want := range map[ErrorCode]string{
		OK: "dhtrpc: ok", UnknownCommand: "dhtrpc: peer says: unknown command",
		InvalidToken: "dhtrpc: peer says: invalid token", 17: "dhtrpc: peer says: error 17",
	} {
		if got := code.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := EventKind(99).String() + EventWakeup.String(); got != "unknownwakeup" {
		t.Errorf("%q", got)
	}
	if got := (ID{0xab}).String(); len(got) != 64 || got[:4] != "ab00" {
		t.Errorf("%q", got)
	}
}
