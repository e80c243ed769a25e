/* Rows that match a filter, by the postings of their shard. */
#include "store/catalog_impl.h"
#include "store/postings.h"

/* All that live in the state lived when the place was looked at last. */
static bool knows_all(const struct place_disk *p, const struct vf_dead *dead)
{
	for (uint64_t i = 0; i < p->n_rows; i++) {
		if (!(i % 8) && !p->dead[i / 8])
			i += 7;
		else if (p->dead[i / 8] >> i % 8 & 1 && !vf_dead_has(dead, i))
			return false;
	}
	return true;
}

/* The id under which shard @ref is here; -ENOENT. */
static int find_place(struct vf_catalog *c, MDB_txn *txn,
		      const struct vf_shard_ref *ref,
		      const struct vf_dead *dead, uint32_t *out)
{
	char name[VF_CATALOG_NAME_LEN];
	MDB_cursor *cursor = NULL; /* closing that is nothing */
	MDB_val key, val;
	int rc = mdb_cursor_open(txn, c->places, &cursor);
	int err = -ENOENT;

	vf_catalog_shard_name(ref, name);
	while (!rc && !(rc = mdb_cursor_get(cursor, &key, &val, MDB_NEXT))) {
		const struct place_disk *p = val.mv_data;
		if (val.mv_size < sizeof(*p) ||
		    memcmp(p->name, name, sizeof(name)))
			continue;
		if (key.mv_size != 4 ||
		    !vf_catalog_sound(&key, &val, sizeof(*p)) ||
		    p->n_rows != ref->n_rows ||
		    val.mv_size != sizeof(*p) + ((size_t)p->n_rows + 7) / 8)
			err = -EUCLEAN;
		else if (knows_all(p, dead))
			err = 0;
		*out = key.mv_size == 4 ? vf_le32(key.mv_data) : 0;
		break;
	}
	mdb_cursor_close(cursor);
	return rc && rc != MDB_NOTFOUND ? vf_catalog_errno(rc) : err;
}

int vf_catalog_select(struct vf_catalog *c, const struct vf_state *s, size_t at,
		      const struct vf_filter *f, uint64_t *bits)
{
	struct vf_postings_to from = {.dbi = c->values};
	int err = c->env ? vf_catalog_errno(mdb_txn_begin(
				   c->env, NULL, MDB_RDONLY, &from.txn))
			 : -EIO;

	if (err)
		return err;
	err = find_place(c, from.txn, &s->shards[at], s->dead[at], &from.place);
	if (!err)
		err = vf_postings_select(&from, s->shards[at].n_rows, f, bits);
	mdb_txn_abort(from.txn);
	return err;
}
