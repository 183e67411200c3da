import time
from collections import Counter
from tests.test_hostile_input import delivered, ALL
def test_prof(me, world, deps):
    me.save("known_contact")
    n0=len(world.requests())
    t=time.time(); c=time.process_time()
    for number in range(0,60):
        me.save(delivered(me, number), subject=ALL[number])
    print("wall",time.time()-t,"cpu",time.process_time()-c)
    d=Counter(); k=Counter()
    for a in world.requests()[n0:]:
        key=(a.vendor,a.method,a.path.split("/")[-1][:20] if "messages" not in a.path else ("msg$value" if "value" in a.path else "msg"))
        d[key]+=a.duration_ms; k[key]+=1
    for key in d: print(key, k[key], round(d[key]/k[key],1))
