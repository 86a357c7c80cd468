package dhtrpc

import (
	"testing"
	"time"
)

// A query that ends at the first value asks three nodes for it instead of ten,
// and as many as any other when they have none.
func TestQueryEndsEarly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const get = 9
		tn := newTestNet(t, 1)
		has := false
		serve := HandlerFunc(func(r *Request) bool {
			if r.Command != get {
				return false
			}
			if has {
				r.Reply([]byte("value"))
			} else {
				r.Reply(nil)
			}
			return true
		})
		for range 40 {
			tn.add(Config{Ephemeral: Never, Handler: serve})
		}
		client := tn.add(Config{Ephemeral: Always})
		target := Hash([]byte("target"))
		run := func(o QueryOptions) (asked, answers int, took time.Duration) {
			before, began := client.Stats().Requests.Total, time.Now()
			for r, err := range client.Query(Message{Command: get, Target: &target}, o).Replies(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				answers++
				if r.Value != nil {
					break
				}
			}
			return client.Stats().Requests.Total - before, answers, time.Since(began)
		}
		_, plain, slow := run(QueryOptions{})
		_, answers, took := run(QueryOptions{EndsEarly: true})
		if answers < plain-2 || took > 2*slow {
			t.Errorf("without a value: %d answers in %v, a plain query has %d in %v", answers, took, plain, slow)
		}
		has = true
		if asked, _, _ := run(QueryOptions{}); asked < DefaultConcurrency {
			t.Errorf("a plain query asked %d", asked)
		}
		if asked, answers, _ := run(QueryOptions{EndsEarly: true}); asked > cautiousConcurrency || answers != 1 {
			t.Errorf("with a value: asked %d, %d answers", asked, answers)
		}
	})
}

// The first nodes asked are gone: the query does not wait for them.
func TestQueryEndsEarlyAmongTheDead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const get = 9
		tn := newTestNet(t, 1)
		serve := HandlerFunc(func(r *Request) bool {
			r.Reply([]byte("value"))
			return true
		})
		for range 20 {
			tn.add(Config{Ephemeral: Never, Handler: serve})
		}
		client := tn.add(Config{Ephemeral: Always})
		target := Hash([]byte("target"))
		closest := client.FindNode(target, QueryOptions{})
		if err := closest.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, c := range closest.Closest()[:cautiousConcurrency] {
			for _, n := range tn.nodes {
				if n.PublicAddr() == c.Addr {
					n.Close()
				}
			}
		}
		began := time.Now()
		for r, err := range client.Query(Message{Command: get, Target: &target}, QueryOptions{EndsEarly: true}).Replies(t.Context()) {
			if err != nil || r.Value == nil {
				t.Fatal(err)
			}
			break
		}
		if took := time.Since(began); took > 2*cautiousTime {
			t.Errorf("took %v", took)
		}
	})
}
