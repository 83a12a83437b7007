package balance

// Candidate is what Tier has to know of one configured member.
type Candidate struct {
	Usable bool // it may be sent requests now: healthy, not ejected, not being drained
	Backup bool // it serves only while no primary is usable
}

// Tier returns the indices of the members a snapshot should have, in order: the usable primaries, the usable backups if
// there is no such primary, or none. As in nginx ("backup"), one usable primary is enough to keep the backups idle.
func Tier(candidates []Candidate) []int {
	var primaries, backups []int
	for i, candidate := range candidates {
		switch {
		case !candidate.Usable:
		case candidate.Backup:
			backups = append(backups, i)
		default:
			primaries = append(primaries, i)
		}
	}
	if len(primaries) > 0 {
		return primaries
	}
	return backups
}
