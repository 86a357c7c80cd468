package hyperdht

import "sync"

// links are a node's raw streams, so that the node can see to all of them. Safe
// for concurrent use.
type links struct {
	mu  sync.Mutex
	all map[*link]struct{}
}

func (s *links) add(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[*link]struct{}{}
	}
	s.all[l] = struct{}{}
}

func (s *links) remove(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, l)
}

func (s *links) list() []*link {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*link, 0, len(s.all))
	for l := range s.all {
		out = append(out, l)
	}
	return out
}
