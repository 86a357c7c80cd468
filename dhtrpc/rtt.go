package dhtrpc

import (
	"context"
	"time"
)

// RTTStats sums up how long nodes took to answer a search.
type RTTStats struct {
	Answers, Failures int
	All, Closest      RTTSummary // of all replies, and of those of the closest nodes
}

// A RTTSummary is an average over replies; zero if there were none.
type RTTSummary struct {
	Replies     int
	RTT         time.Duration
	CloserNodes float64
}

// RTTStats searches for the node heard from last and returns how long those on
// the way took to answer. docs/spec/dht-rpc.md §9.
func (n *Node) RTTStats(ctx context.Context) (s RTTStats, err error) {
	target := n.TableID()
	if newest := n.newest(1); len(newest) > 0 {
		target = newest[0].ID
	}
	q := n.FindNode(target, QueryOptions{})
	var all []Reply
	for r, e := range q.Replies(ctx) {
		if e != nil {
			return s, e
		}
		all = append(all, r)
	}
	s.Answers, s.Failures = q.Counts()
	s.All, s.Closest = summarize(all), summarize(q.ClosestReplies())
	return s, nil
}

func summarize(replies []Reply) (s RTTSummary) {
	if s.Replies = len(replies); s.Replies == 0 {
		return s
	}
	for i := range replies {
		s.RTT += replies[i].RTT
		s.CloserNodes += float64(replies[i].closer.Len())
	}
	s.RTT /= time.Duration(s.Replies)
	s.CloserNodes /= float64(s.Replies)
	return s
}
