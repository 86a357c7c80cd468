package keep

func (t *topic[T, K, V, S]) member(r ref) *member[T, K, V, S] { return t.sets.pool.payload(r) }

func (t *topic[T, K, V, S]) stamp(r ref) int64 { return t.sets.pool.entries.at(r).stamp }

// find returns the member with a key, 0 if there is none.
func (t *topic[T, K, V, S]) find(key K) ref {
	if t.byKey != nil {
		return t.byKey[key]
	}
	for _, g := range t.groups {
		for _, r := range g.members {
			if t.member(r).key == key {
				return r
			}
		}
	}
	return 0
}

func (t *topic[T, K, V, S]) findGroup(source S) (at int, ok bool) {
	if t.bySource != nil {
		at, ok = t.bySource[source]
		return at, ok
	}
	for i := range t.groups {
		if t.groups[i].source == source {
			return i, true
		}
	}
	return 0, false
}

func (t *topic[T, K, V, S]) add(r ref, key K, source S) {
	t.addTo(source, r)
	t.len++
	switch {
	case t.byKey != nil:
		t.byKey[key] = r
	case t.len > smallTopic:
		t.grow()
	}
}

// addTo puts a member into the group of a source.
func (t *topic[T, K, V, S]) addTo(source S, r ref) {
	i, ok := t.findGroup(source)
	if !ok {
		i = len(t.groups)
		t.groups = append(t.groups, group[S]{source: source})
		if t.bySource != nil {
			t.bySource[source] = i
		}
	}
	g := &t.groups[i]
	t.member(r).at = int32(len(g.members))
	g.members = append(g.members, r)
}

func (t *topic[T, K, V, S]) remove(m *member[T, K, V, S], source S) {
	t.removeFrom(source, m)
	t.len--
	if t.byKey != nil {
		delete(t.byKey, m.key)
		if t.len <= smallTopic/2 {
			t.byKey, t.bySource = nil, nil
		}
	}
}

// removeFrom takes a member out of the group of a source.
func (t *topic[T, K, V, S]) removeFrom(source S, m *member[T, K, V, S]) ref {
	i, ok := t.findGroup(source)
	if !ok {
		panic("BUG: keep: member without group")
	}
	g := &t.groups[i]
	last := len(g.members) - 1
	t.swapMembers(g, int(m.at), last)
	r := g.members[last]
	g.members = g.members[:last]
	if last > 0 {
		return r
	}
	last = len(t.groups) - 1
	t.swapGroups(i, last)
	if t.bySource != nil {
		delete(t.bySource, source)
	}
	t.groups[last] = group[S]{}
	t.groups = t.groups[:last]
	return r
}

// grow builds the maps of a topic that has become large.
func (t *topic[T, K, V, S]) grow() {
	t.byKey = make(map[K]ref, 2*t.len)
	t.bySource = make(map[S]int, 2*len(t.groups))
	for i, g := range t.groups {
		t.bySource[g.source] = i
		for _, r := range g.members {
			t.byKey[t.member(r).key] = r
		}
	}
}

// victim is the member that goes when the topic is full and the source wants
// to add one: the oldest of the source that has most members in this topic.
func (t *topic[T, K, V, S]) victim(source S) ref {
	most := &t.groups[0]
	for i := range t.groups {
		g := &t.groups[i]
		if len(g.members) > len(most.members) ||
			len(g.members) == len(most.members) && t.stamp(t.oldest(g)) < t.stamp(t.oldest(most)) {
			most = g
		}
	}
	if i, ok := t.findGroup(source); ok && len(t.groups[i].members)+1 > len(most.members) {
		most = &t.groups[i]
	}
	return t.oldest(most)
}

func (t *topic[T, K, V, S]) oldest(g *group[S]) ref {
	oldest := g.members[0]
	for _, r := range g.members[1:] {
		if t.stamp(r) < t.stamp(oldest) {
			oldest = r
		}
	}
	return oldest
}

func (t *topic[T, K, V, S]) swapGroups(i, j int) {
	if i == j {
		return
	}
	t.groups[i], t.groups[j] = t.groups[j], t.groups[i]
	if t.bySource != nil {
		t.bySource[t.groups[i].source] = i
		t.bySource[t.groups[j].source] = j
	}
}

func (t *topic[T, K, V, S]) swapMembers(g *group[S], i, j int) {
	g.members[i], g.members[j] = g.members[j], g.members[i]
	t.member(g.members[i]).at, t.member(g.members[j]).at = int32(i), int32(j)
}
