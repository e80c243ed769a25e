/*
 * Filters and metadata, both from outside: whatever is accepted can be
 * evaluated, and a filter's nodes and values are in bounds and in order.  The
 * input is one JSON text, taken as either.
 */
#include "store/filter.h"
#include "tests/fuzz.h"

const char fuzz_name[] = "filter";

static void check_filter(const struct vf_filter *f)
{
	fuzz_check(f->n_nodes && f->n_nodes <= VF_FILTER_NODES_MAX);
	fuzz_check(f->n_values <= VF_FILTER_VALUES_MAX);
	for (uint32_t i = 0; i < f->n_nodes; i++) {
		const struct vf_filter_node *n = &f->nodes[i];
		/* Down and right only: no walk goes round. */
		fuzz_check(!n->child ||
			   (n->child > i && n->child < f->n_nodes));
		fuzz_check(!n->next || (n->next > i && n->next < f->n_nodes));
		fuzz_check(n->first + n->n <= f->n_values);
		for (uint32_t j = n->first + 1; j < n->first + n->n; j++)
			fuzz_check(vf_value_compare(&f->values[j - 1],
						    &f->values[j]) < 0);
	}
}

static const char any[] = "{\"a\":1,\"b\":{\"$ne\":\"x\"}}";

static const char *const metadata[] = {
	"{}",
	"{\"a\":1,\"b\":\"x\",\"c\":[true,2,\"y\"],\"d\":-0.0}",
	"{\"a\":[1,2,3],\"genre\":\"drama\",\"year\":1999}",
};

int fuzz_one(const uint8_t *p, size_t len)
{
	VF_AUTO_BUF struct vf_buf scratch = {0};
	char why[VF_FILTER_WHY_LEN] = "";
	struct vf_filter *f, *all;
	int err = vf_filter_parse((const char *)p, len, &f, why), rc;

	fuzz_check(!vf_filter_parse(any, strlen(any), &all, why));
	rc = vf_filter_match(all, (const char *)p, len, &scratch);
	fuzz_check(rc == 0 || rc == 1 || rc == -EBADMSG);
	vf_filter_free(all);
	if (err) {
		fuzz_check(err == -EINVAL && !f && *why &&
			   strlen(why) < sizeof(why));
		return rc == -EBADMSG ? -EBADMSG : 10 + rc;
	}
	check_filter(f);
	for (size_t i = 0; i < VF_N(metadata); i++) {
		int one = vf_filter_match(f, metadata[i], strlen(metadata[i]),
					  &scratch);
		fuzz_check(one == 0 || one == 1);
		rc = 2 * rc + one;
	}
	vf_filter_free(f);
	return 100 + (int)VF_MIN(rc, 20);
}

void fuzz_seeds(void)
{
	static const char *const seeds[] = {
		"{\"a\":1,\"b\":{\"$ne\":\"x\"}}",
		"{\"$and\":[{\"a\":{\"$gt\":0.5,\"$lte\":3}},{\"$or\":[{\"c\":"
		"true},{\"genre\":{\"$in\":[\"drama\",\"\\u0064\",7]}}]}]}",
		"{\"year\":{\"$exists\":false},\"genre\":{\"$startsWith\":"
		"\"dr\"}}",
		"{\"a\":{\"$nin\":[1,2,\"\\ud83d\\ude00\"]}}",
		"{\"k\":\"\\n\\\"\\u00e9\",\"l\":[1e400,-12.25,0.1],\"m\":null}",
	};

	for (size_t i = 0; i < VF_N(seeds); i++)
		fuzz_add(seeds[i], strlen(seeds[i]));
	for (size_t i = 0; i < VF_N(metadata); i++)
		fuzz_add(metadata[i], strlen(metadata[i]));
}

void fuzz_fix(uint8_t *p, size_t len)
{
	fuzz_fix_object(p, len);
}
