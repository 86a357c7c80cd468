package keep

func (t *topic[T, K, V, S]) find(key K) *memberEntry[T, K, V, S] {
	if t.byKey != nil {
		return t.byKey[key]
	}
	for _, g := range t.groups {
		for _, e := range g.members {
			if e.payload.key == key {
				return e
			}
		}
	}
	return nil
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

func (t *topic[T, K, V, S]) add(e *memberEntry[T, K, V, S]) {
	t.addTo(e.source.id, e)
	t.len++
	switch {
	case t.byKey != nil:
		t.byKey[e.payload.key] = e
	case t.len > smallTopic:
		t.grow()
	}
}

func (t *topic[T, K, V, S]) addTo(source S, e *memberEntry[T, K, V, S]) {
	i, ok := t.findGroup(source)
	if !ok {
		i = len(t.groups)
		t.groups = append(t.groups, group[T, K, V, S]{source: source})
		if t.bySource != nil {
			t.bySource[source] = i
		}
	}
	g := &t.groups[i]
	e.payload.at = len(g.members)
	g.members = append(g.members, e)
}

func (t *topic[T, K, V, S]) remove(e *memberEntry[T, K, V, S]) {
	t.removeFrom(e.source.id, e)
	t.len--
	if t.byKey != nil {
		delete(t.byKey, e.payload.key)
		if t.len <= smallTopic/2 {
			t.byKey, t.bySource = nil, nil
		}
	}
}

func (t *topic[T, K, V, S]) removeFrom(source S, e *memberEntry[T, K, V, S]) {
	i, ok := t.findGroup(source)
	if !ok {
		panic("BUG: keep: member without group")
	}
	g := &t.groups[i]
	last := len(g.members) - 1
	g.swap(e.payload.at, last)
	g.members[last] = nil
	g.members = g.members[:last]
	if last > 0 {
		return
	}
	last = len(t.groups) - 1
	t.swapGroups(i, last)
	if t.bySource != nil {
		delete(t.bySource, source)
	}
	t.groups[last] = group[T, K, V, S]{}
	t.groups = t.groups[:last]
}

// grow builds the maps of a topic that has become large.
func (t *topic[T, K, V, S]) grow() {
	t.byKey = make(map[K]*memberEntry[T, K, V, S], 2*t.len)
	t.bySource = make(map[S]int, 2*len(t.groups))
	for i, g := range t.groups {
		t.bySource[g.source] = i
		for _, e := range g.members {
			t.byKey[e.payload.key] = e
		}
	}
}

// victim is the member that goes when the topic is full and the source wants
// to add one: the oldest of the source that has most members in this topic.
func (t *topic[T, K, V, S]) victim(source S) *memberEntry[T, K, V, S] {
	most := &t.groups[0]
	for i := range t.groups {
		g := &t.groups[i]
		if len(g.members) > len(most.members) ||
			len(g.members) == len(most.members) && g.oldest().stamp < most.oldest().stamp {
			most = g
		}
	}
	if i, ok := t.findGroup(source); ok && len(t.groups[i].members)+1 > len(most.members) {
		most = &t.groups[i]
	}
	return most.oldest()
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

func (g *group[T, K, V, S]) swap(i, j int) {
	g.members[i], g.members[j] = g.members[j], g.members[i]
	g.members[i].payload.at, g.members[j].payload.at = i, j
}

func (g *group[T, K, V, S]) oldest() *memberEntry[T, K, V, S] {
	oldest := g.members[0]
	for _, e := range g.members[1:] {
		if e.stamp < oldest.stamp {
			oldest = e
		}
	}
	return oldest
}
