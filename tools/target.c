#include "tools/target.h"

#include <stdio.h>

#include "store/control.h"
#include "store/util.h"
#include "tools/stopper.h"

int vf_target_open(const char *name, const struct vf_args_common *common,
		   struct vf_target *out)
{
	*out = (struct vf_target){.name = name};
	int err = vf_target_split(name, &out->url, &out->index);

	if (err)
		return err;
	out->stopper = vf_stopper_start();
	err = vf_bucket_open(out->url, &common->bucket, &out->bucket);
	if (err)
		vf_target_close(out);
	else
		vf_stopper_set(out->stopper, out->bucket);
	return err;
}

void vf_target_close(struct vf_target *t)
{
	vf_stopper_end(t->stopper);
	vf_bucket_close(t->bucket);
	free(t->url);
	free(t->index);
	*t = (struct vf_target){0};
}

int vf_target_state(const struct vf_target *t, struct vf_state **out)
{
	int err = vf_state_load(t->bucket, t->index, out);

	if (err == -ENOENT)
		return vf_fail(err, "%s: there is no index \"%s\" in %s",
			       t->name, t->index, t->url);
	return err;
}

void vf_print_escaped(const char *s, size_t len)
{
	for (const char *end = s + len; s < end;) {
		size_t n = vf_control_len(s, end);
		if (!n)
			putchar(*s++);
		for (; n; n--)
			printf("\\x%02x", (unsigned char)*s++);
	}
}

const char *vf_format_size(uint64_t n, char out[24])
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
	double v = (double)n / 1024;
	size_t i = 0;

	if (n < 1024) {
		snprintf(out, 24, "%u B", (unsigned)n);
		return out;
	}
	for (; v >= 1024 && i + 1 < VF_N(units); i++)
		v /= 1024;
	snprintf(out, 24, "%.1f %s", v, units[i]);
	return out;
}
