package dhtrpc

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warren-dht/warren/kad"
	"github.com/warren-dht/warren/udp"
	"github.com/warren-dht/warren/vnet"
)

// counter is a handler that counts what it is asked and answers with a value.
type counter struct {
	asked, committed atomic.Int32
	refuse           atomic.Bool
}

func (h *counter) ServeRPC(r *Request) bool {
	h.asked.Add(1)
	if r.Token != nil {
		h.committed.Add(1)
	}
	if h.refuse.Load() {
		r.Error(42)
	} else {
		r.Reply([]byte("ok"))
	}
	return true
}

// A query finds the truly closest nodes, yields every reply, and commits to the
// 20 closest with their tokens.
func TestQueryFindsAndCommits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		h := new(counter)
		for range 60 {
			tn.add(Config{Ephemeral: Never, Handler: h})
		}
		shy := new(counter) // ephemeral: its replies are yielded, nothing is committed to it
		tn.add(Config{Ephemeral: Always, Handler: shy})
		client := tn.add(Config{Ephemeral: Always})
		target := Hash([]byte("target"))
		q := client.Query(Message{Command: 9, Target: &target, Value: []byte("v")}, QueryOptions{Commit: true})
		if h.asked.Load() != 0 {
			t.Error("a query that is not read asked somebody")
		}
		replies := 0
		for r, err := range q.Replies(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if string(r.Value) != "ok" {
				t.Errorf("reply %q", r.Value)
			}
			replies++
		}
		want := tn.closest(target)
		got := q.Closest()
		for i, c := range got {
			if c.ID != want[i] {
				t.Fatalf("closest node %d is %v, want %v", i, c.ID, want[i])
			}
		}
		if len(got) != K || replies < K {
			t.Errorf("%d closest, %d replies", len(got), replies)
		}
		if n := h.committed.Load(); n < K-1 { // the bootstrapper knows no command
			t.Errorf("%d commits arrived, want 20 or 19", n)
		}
		if shy.committed.Load() != 0 {
			t.Error("committed to an ephemeral node")
		}
		answers, failures := q.Counts()
		if answers < replies || failures > 1 {
			t.Errorf("%d answers, %d failures, %d replies", answers, failures, replies)
		}
		if s := client.Stats(); s.Queries.Active != 0 || s.Queries.Total < 2 {
			t.Errorf("statistics %+v", s.Queries)
		}
		if err := q.Run(t.Context()); err == nil {
			t.Error("a query ran twice")
		}
	})
}

// closest returns the ids of all persistent nodes, closest to target first.
func (tn *testNet) closest(target ID, but ...*Node) (ids []ID) {
	for _, n := range tn.nodes {
		if id, ok := n.ID(); ok && !slices.Contains(but, n) && !n.Closed() {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b ID) int { return kad.Compare(target, a, b) })
	return ids
}

func TestFindNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 30)
		for i := range 10 {
			n := tn.nodes[i]
			target := Hash([]byte{byte(i)})
			q := n.FindNode(target, QueryOptions{})
			if err := q.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			var got []ID
			for _, c := range q.Closest() {
				got = append(got, c.ID)
			}
			if want := tn.closest(target, n)[:K]; !slices.Equal(got, want) {
				t.Errorf("query %d: %v, want %v", i, got, want)
			}
		}
	})
}

// Without anybody persistent there is nobody to commit to, and the error says
// why.
func TestCommitNeedsPersistentNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		isolated := tn.add(Config{Bootstrap: []string{}})
		target := ID{1}
		m := Message{Command: 1, Target: &target}
		err := isolated.Query(m, QueryOptions{Commit: true}).Run(t.Context())
		if !errors.Is(err, ErrTooFewNodes) {
			t.Errorf("error %v", err)
		}
		if err := isolated.Query(m, QueryOptions{}).Run(t.Context()); err != nil {
			t.Errorf("without a commit: %v", err)
		}
	})
}

// One commit of many is success, none is failure.
func TestCommitFunc(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		for range 25 {
			tn.add(Config{Ephemeral: Never, Handler: new(counter)})
		}
		target, reason := ID{1}, errors.New("refused")
		run := func(f func(i int32) error) (int32, error) {
			var calls atomic.Int32
			q := tn.nodes[3].Query(Message{Command: 1, Target: &target}, QueryOptions{
				CommitFunc: func(ctx context.Context, r Reply) error { return f(calls.Add(1)) },
			})
			err := q.Run(t.Context())
			return calls.Load(), err
		}
		n, err := run(func(i int32) error {
			if i == 7 {
				return nil
			}
			return reason
		})
		if err != nil || n != K {
			t.Errorf("one success of %d: %v", n, err)
		}
		if _, err := run(func(int32) error { return reason }); !errors.Is(err, reason) {
			t.Errorf("no success: %v", err)
		}
	})
}

// Tokens that have died while a slow reader was shown the replies do not keep
// a commit from its nodes. docs/spec/dht-rpc.md §3.
func TestCommitAfterTokensHaveDied(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		h := new(counter)
		for range 30 {
			tn.add(Config{Ephemeral: Never, Handler: h})
		}
		client := tn.add(Config{Ephemeral: Always})
		target := ID{1}
		for _, err := range client.Query(Message{Command: 1, Target: &target}, QueryOptions{Commit: true}).Replies(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
		}
		if n := h.committed.Load(); n < K-1 { // the bootstrapper knows no command
			t.Errorf("%d commits arrived", n)
		}
		if n := client.Stats().User.Errors; n < 10 {
			t.Errorf("%d tokens were refused: the test does not test", n)
		}
	})
}

// A reader that is slow slows the query.
func TestQueryBackPressure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		h := new(counter)
		for range 60 {
			tn.add(Config{Ephemeral: Never, Handler: h})
		}
		client := tn.add(Config{Ephemeral: Always})
		target := ID{1}
		q := client.Query(Message{Command: 1, Target: &target}, QueryOptions{})
		first := true
		total := 0
		for _, err := range q.Replies(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			total++
			if first {
				first = false
				time.Sleep(time.Minute)
				// Handed out, waiting, and under way when the buffer was full.
				if n := h.asked.Load(); n > 2*bufferedReplies+DefaultConcurrency {
					t.Errorf("%d asked while the reader waited", n)
				}
			}
		}
		if total < K {
			t.Errorf("%d replies in the end", total)
		}
	})
}

// Leaving the loop, the end of the context, a closed session and a closed node
// end a query at once, and it leaves nothing behind.
func TestQueryEndsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		for range 40 {
			tn.add(Config{Ephemeral: Never, Handler: new(counter)})
		}
		target, reason := ID{1}, errors.New("enough")
		m := Message{Command: 1, Target: &target}
		clean := func(n *Node, why string) {
			t.Helper()
			synctest.Wait()
			if s := n.Stats(); s.Queries.Active != 0 || s.Requests.Active != 0 {
				t.Errorf("%s: %d queries and %d requests left", why, s.Queries.Active, s.Requests.Active)
			}
		}

		client := tn.add(Config{Ephemeral: Always})
		for range client.Query(m, QueryOptions{Commit: true}).Replies(t.Context()) {
			break
		}
		clean(client, "leaving the loop")

		for _, stop := range []string{"context", "session", "close", "suspend"} {
			client := tn.add(Config{Ephemeral: Always})
			ctx, cancel := context.WithCancelCause(t.Context())
			s := client.NewSession()
			q := client.Query(m, QueryOptions{Session: s})
			var err error
			n := 0
			began := time.Now()
			want := reason
			for _, e := range q.Replies(ctx) {
				if err = e; n > 0 {
					continue
				}
				n++
				switch stop {
				case "context":
					cancel(reason)
				case "session":
					s.Close(reason)
				case "close":
					client.Close()
					want = ErrClosed
				case "suspend":
					client.Suspend()
					want = ErrSuspended
				}
				began = time.Now()
			}
			cancel(nil)
			if !errors.Is(err, want) {
				t.Errorf("%s: error %v, want %v", stop, err, want)
			}
			if d := time.Since(began); d != 0 {
				t.Errorf("%s: ended %v later", stop, d)
			}
			clean(client, stop)
		}
	})
}

// deaf is a node that answers nobody: a socket without a reader.
func (tn *testNet) deaf() (udp.Conn, netip.AddrPort) {
	tn.t.Helper()
	h := tn.net.Host()
	c, err := h.Listen(netip.AddrPortFrom(h.Addr(), 5000))
	if err != nil {
		tn.t.Fatal(err)
	}
	tn.t.Cleanup(func() { c.Close() })
	return c, netip.AddrPortFrom(h.Addr(), 5000)
}

// A dead node among the contacts costs half a second, not six, once 20 others
// have answered; it is forgotten, and whoever named it is told.
func TestSlowAndDeadNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 40)
		client := tn.add(Config{Ephemeral: Always})
		_, dead := tn.deaf()
		q := client.FindNode(IDOf(dead), QueryOptions{Nodes: []netip.AddrPort{dead}})
		began := time.Now()
		if err := q.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d < 2*soonLeast || d > 2*soonLeast+300*time.Millisecond {
			t.Errorf("took %v, want a little more than %v", d, 2*soonLeast)
		}
		if len(q.Closest()) != K {
			t.Errorf("%d closest", len(q.Closest()))
		}

		// With fewer than 20 others it is waited for, but not for all of six
		// transmissions, and is forgotten when it does not answer a ping either.
		few := newTestNet(t, 5)
		client = few.add(Config{Ephemeral: Always})
		_, dead = few.deaf()
		few.link = func() vnet.Link { return vnet.Link{Latency: 1200 * time.Millisecond} }
		slow := few.add(Config{Ephemeral: Never})
		client.AddNode(dead)
		client.AddNode(slow.PublicAddr())
		began = time.Now()
		if err := client.FindNode(IDOf(dead), QueryOptions{}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d < 1500*time.Millisecond || d > 2*time.Second {
			t.Errorf("took %v, want a little more than 1.5 s", d)
		}
		time.Sleep(5 * time.Second)
		for a, want := range map[netip.AddrPort]bool{dead: false, slow.PublicAddr(): true} {
			if slices.ContainsFunc(client.Nodes(), func(c Contact) bool { return c.Addr == a }) != want {
				t.Errorf("%v in the table: %v, want %v", a, !want, want)
			}
		}
	})
}

func TestDownHintsAreSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, off := range []bool{false, true} {
			tn := newTestNet(t, 5)
			_, dead := tn.deaf()
			for _, n := range tn.nodes {
				n.AddNode(dead)
			}
			client := tn.add(Config{Ephemeral: Always, NoDownHints: off})
			client.FindNode(IDOf(dead), QueryOptions{}).Run(t.Context())
			hints := 0
			time.Sleep(10 * time.Second) // they verify
			for _, n := range tn.nodes {
				hints += n.Stats().DownHint.Served
				if n != client && !off && slices.ContainsFunc(n.Nodes(), func(c Contact) bool { return c.Addr == dead }) {
					t.Error("a node that got a hint still lists the dead one")
				}
			}
			if sent := client.Stats().DownHint.Tx; off && sent != 0 || !off && (hints == 0 || sent == 0) {
				t.Errorf("switched off %v: %d hints sent, %d arrived", off, sent, hints)
			}
		}
	})
}

// A query starts where it is told, and asks nobody else if it is told so.
func TestQueryStartsFromNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 30)
		target := ID{7}
		first := tn.nodes[1].FindNode(target, QueryOptions{})
		if err := first.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		client := tn.add(Config{Bootstrap: []string{}, Ephemeral: Always})
		for name, o := range map[string]QueryOptions{
			"nodes":        {Nodes: []netip.AddrPort{tn.nodes[9].PublicAddr()}},
			"replies":      {Replies: first.ClosestReplies()},
			"only replies": {Replies: first.ClosestReplies(), OnlyClosest: true},
		} {
			before := client.Stats().Requests.Total
			q := client.FindNode(target, o)
			if err := q.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			asked := client.Stats().Requests.Total - before
			if n := len(q.Closest()); n != K {
				t.Errorf("%s: %d closest", name, n)
			}
			if o.OnlyClosest && asked != K {
				t.Errorf("%s: %d asked, want 20", name, asked)
			}
		}
		// Nodes that lead nowhere: the table helps out.
		_, dead := tn.deaf()
		var nowhere []netip.AddrPort
		for i := range K {
			nowhere = append(nowhere, netip.AddrPortFrom(dead.Addr(), uint16(6000+i)))
		}
		q := client.FindNode(target, QueryOptions{Nodes: nowhere, Retries: -1})
		if err := q.Run(t.Context()); err != nil || len(q.Closest()) != K {
			t.Errorf("dead start: %d closest, %v", len(q.Closest()), err)
		}
	})
}

// Error replies name closer nodes, but are not yielded and count for nothing.
func TestErrorRepliesInQueries(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tn := newTestNet(t, 1)
		h := new(counter)
		h.refuse.Store(true)
		for range 10 {
			tn.add(Config{Ephemeral: Never, Handler: h})
		}
		target := ID{1}
		q := tn.nodes[2].Query(Message{Command: 1, Target: &target}, QueryOptions{})
		for r, err := range q.Replies(t.Context()) {
			t.Errorf("yielded %+v, %v", r, err)
		}
		if h.asked.Load() < 9 || len(q.Closest()) != 0 {
			t.Errorf("%d asked, %d closest", h.asked.Load(), len(q.Closest()))
		}
		if answers, failures := q.Counts(); answers != 0 || failures < 9 {
			t.Errorf("%d answers, %d failures", answers, failures)
		}
	})
}

// A query ends at once, too, while it waits for the names of bootstrap nodes or
// for its commits.
func TestQueryEndsAtOnceWhereverItWaits(t *testing.T) {
	reason := errors.New("enough")
	for _, where := range []string{"names", "commits"} {
		for _, stop := range []string{"context", "session", "close", "suspend"} {
			bubble(t, func(t *testing.T) {
				tn := newTestNet(t, 5)
				var waits atomic.Bool
				client := tn.add(Config{Ephemeral: Always, Bootstrap: []string{"slow.example:1"}, Nodes: []netip.AddrPort{tn.addr()},
					Resolve: func(ctx context.Context, _ string) ([]netip.Addr, error) {
						if waits.Load() && where == "names" {
							<-ctx.Done()
							return nil, ctx.Err()
						}
						return nil, errors.New("no such host")
					}})
				time.Sleep(time.Minute) // the names are asked for again
				waits.Store(true)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				s := client.NewSession()
				q := client.FindNode(ID{1}, QueryOptions{Session: s, CommitFunc: func(ctx context.Context, _ Reply) error {
					<-ctx.Done()
					return context.Cause(ctx)
				}})
				ended := make(chan error, 1)
				go func() { ended <- q.Run(ctx) }()
				time.Sleep(10 * time.Second)
				want := reason
				switch stop {
				case "context":
					cancel(reason)
				case "session":
					s.Close(reason)
				case "close":
					go client.Close()
					want = ErrClosed
				case "suspend":
					go client.Suspend()
					want = ErrSuspended
				}
				synctest.Wait()
				select {
				case err := <-ended:
					if !errors.Is(err, want) {
						t.Errorf("%s while it waits for %s: error %v, want %v", stop, where, err, want)
					}
				default:
					t.Errorf("%s while it waits for %s: it goes on", stop, where)
					cancel(nil)
				}
			})
		}
	}
}
