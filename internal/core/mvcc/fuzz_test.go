package mvcc

import "testing"

// FuzzOperations lets the input decide every choice of a world with its twin.
func FuzzOperations(f *testing.F) {
	f.Add([]byte("a short life"))
	f.Add([]byte{0, 5, 1, 2, 3, 4, 5, 6, 50, 80, 9, 85, 3, 95, 20, 99, 70, 1, 2, 3, 4, 5})
	f.Add([]byte("the quick brown fox compacts over the lazy view, twice, and then some more"))
	// One transaction deletes a key and puts it twice, is compacted, and restored.
	f.Add([]byte("xA$10$0$10010$10000000000000\xb800a0bC0"))
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) > 4096 {
			return
		}
		choose := func(n int) int {
			if len(input) == 0 {
				return 0
			}
			c := int(input[0])
			input = input[1:]
			return c % n
		}
		w := newWorld(t, 8, choose)
		for len(input) > 0 {
			w.step()
			if err := w.store.tree.check(); err != nil {
				t.Fatal(err)
			}
		}
		w.closeAll()
	})
}
