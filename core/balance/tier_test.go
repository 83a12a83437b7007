package balance

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBackupsServeOnlyWithoutAPrimary(t *testing.T) {
	primary, backup := Candidate{Usable: true}, Candidate{Usable: true, Backup: true}
	deadPrimary, deadBackup := Candidate{}, Candidate{Backup: true}
	tests := []struct {
		name       string
		candidates []Candidate
		indices    []int
	}{
		{"nobody", nil, nil},
		{"primaries only", []Candidate{primary, primary}, []int{0, 1}},
		{"usable primaries only", []Candidate{deadPrimary, primary, deadPrimary, primary}, []int{1, 3}},
		{"one primary keeps the backups idle", []Candidate{backup, deadPrimary, backup, primary}, []int{3}},
		{"all backups at once", []Candidate{backup, deadPrimary, backup}, []int{0, 2}},
		{"usable backups only", []Candidate{deadPrimary, deadBackup, backup}, []int{2}},
		{"only backups are configured", []Candidate{backup, deadBackup}, []int{0}},
		{"nobody is usable", []Candidate{deadPrimary, deadBackup}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.indices, Tier(test.candidates))
		})
	}
}
