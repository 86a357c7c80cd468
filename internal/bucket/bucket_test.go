package bucket

import (
	"testing"
	"time"
)

func TestTable(t *testing.T) {
	now := time.Unix(1000, 0)
	table := New[int](10, 20)
	for i := range 21 {
		if got := table.Of(1).AllowN(now, 1); got != (i < 20) {
			t.Errorf("token %d: %v", i, got)
		}
	}
	if !table.Of(1).AllowN(now.Add(time.Second), 10) || table.Of(1).AllowN(now.Add(time.Second), 1) {
		t.Error("a second does not bring ten tokens")
	}
	// Others are not affected, except those that share the place.
	empty := 0
	for k := range 1000 {
		if table.Of(k).TokensAt(now) < 20 {
			empty++
		}
	}
	if empty == 0 || empty > 50 {
		t.Errorf("the bucket of one key is shared by %d of 1,000", empty)
	}
}

// However many keys come, the table does not grow.
func TestTableIsBounded(t *testing.T) {
	table := New[int](1, 1)
	different := map[any]bool{}
	for k := range 100_000 {
		different[table.Of(k)] = true
	}
	if len(different) > size || len(different) < size/2 {
		t.Errorf("%d buckets", len(different))
	}
}
