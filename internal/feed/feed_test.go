package feed

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
)

func TestFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New[int]()
		for i := range 5 {
			f.Put(i, 3)
		}
		dropped := 0
		go func() {
			synctest.Wait()
			f.Put(7, 3)
			synctest.Wait()
			f.End(9)
		}()
		var got []int
		for e := range f.All(t.Context(), func() { dropped++ }) {
			got = append(got, e)
		}
		if want := []int{0, 1, 2, 7, 9}; !slices.Equal(got, want) || dropped != 1 {
			t.Errorf("got %v, want %v; dropped %d times", got, want, dropped)
		}
	})
}

func TestFeedThatNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New[int]()
		ctx, cancel := context.WithCancel(t.Context())
		dropped := make(chan struct{}, 2)
		events := f.All(ctx, func() { dropped <- struct{}{} })
		f.Put(1, 1)
		cancel()
		<-dropped
		for e := range events {
			t.Errorf("event %v after the context's end", e)
		}
	})
}
