#include "lorikeet/parallel/launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <string>

#include "tests/core/temporary_folder.h"

namespace lorikeet {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

using Launcher = LaunchEnvironment::Launcher;
using Environment = std::map<std::string, std::string>;

LaunchEnvironment read(const Environment& environment) {
  return read_launch_environment([&](std::string_view name) -> std::optional<std::string> {
    const auto found = environment.find(std::string(name));
    return found == environment.end() ? std::nullopt : std::optional(found->second);
  });
}

// `base` with some variables set anew; a value of "" takes one away.
Environment with(Environment base, const Environment& changes) {
  for (const auto& [name, value] : changes) base[name] = value;
  return base;
}

std::string refusal(const Environment& environment) {
  return error_of(ExitCode::kUsage, [&] { read(environment); });
}

void expect_one_process(const Environment& environment) {
  const LaunchEnvironment e = read(environment);
  EXPECT_EQ(e.launcher, Launcher::kNone);
  EXPECT_EQ(e.rank, 0);
  EXPECT_EQ(e.world_size, 1);
  EXPECT_EQ(e.local_rank, 0);
  EXPECT_EQ(e.local_world_size, 1);
}

// As torchrun 2.11 sets them for rank 11 of two nodes of eight.
const Environment kTorchrun = {{"RANK", "11"},
                               {"WORLD_SIZE", "16"},
                               {"LOCAL_RANK", "3"},
                               {"LOCAL_WORLD_SIZE", "8"},
                               {"GROUP_RANK", "1"},
                               {"GROUP_WORLD_SIZE", "2"},
                               {"ROLE_RANK", "11"},
                               {"ROLE_WORLD_SIZE", "16"},
                               {"ROLE_NAME", "default"},
                               {"MASTER_ADDR", "node7"},
                               {"MASTER_PORT", "40123"},
                               {"TORCHELASTIC_RESTART_COUNT", "2"},
                               {"TORCHELASTIC_MAX_RESTARTS", "3"},
                               {"TORCHELASTIC_RUN_ID", "lory"},
                               {"TORCHELASTIC_USE_AGENT_STORE", "True"}};

// As srun sets them for rank 34 of 35: four nodes of eight tasks, one of three.
const Environment kSlurm = {{"SLURM_JOB_ID", "1234567"},
                            {"SLURM_PROCID", "34"},
                            {"SLURM_NTASKS", "35"},
                            {"SLURM_LOCALID", "2"},
                            {"SLURM_NODEID", "4"},
                            {"SLURM_TASKS_PER_NODE", "8(x4),3"},
                            {"SLURM_STEP_TASKS_PER_NODE", "8(x4),3"},
                            {"SLURM_NODELIST", "node[001-006,010],login1"},
                            {"SLURM_STEP_NODELIST", "node[003-006,010],login1"}};

const Environment kOpenMpi = {{"OMPI_COMM_WORLD_RANK", "2"},
                              {"OMPI_COMM_WORLD_SIZE", "4"},
                              {"OMPI_COMM_WORLD_LOCAL_RANK", "2"},
                              {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                              {"OMPI_COMM_WORLD_NODE_RANK", "2"}};

TEST(LaunchEnvironment, IsOneProcessWithoutALauncher) {
  expect_one_process({});
  expect_one_process({{"WORLD_SIZE", "1"}, {"LOCAL_RANK", "0"}});
  expect_one_process({{"RANK", ""}, {"SLURM_PROCID", ""}});  // an empty value is none
}

TEST(LaunchEnvironment, ReadsTheProcesssOwnEnvironment) {
  for (const auto& [name, value] : kTorchrun) ::setenv(name.c_str(), value.c_str(), 1);
  const LaunchEnvironment e = read_launch_environment();
  for (const auto& [name, value] : kTorchrun) ::unsetenv(name.c_str());
  EXPECT_EQ(e.rank, 11);
  EXPECT_EQ(e.master_address, "node7");
  EXPECT_EQ(read_launch_environment([](auto) { return std::nullopt; }).world_size, 1);
}

// ---- torchrun

TEST(LaunchByTorchrun, ReadsEveryVariable) {
  const LaunchEnvironment e = read(kTorchrun);
  EXPECT_EQ(e.launcher, Launcher::kTorchrun);
  EXPECT_EQ(e.rank, 11);
  EXPECT_EQ(e.world_size, 16);
  EXPECT_EQ(e.local_rank, 3);
  EXPECT_EQ(e.local_world_size, 8);
  EXPECT_EQ(e.node_rank, 1);
  EXPECT_EQ(e.master_address, "node7");
  EXPECT_EQ(e.master_port, 40123);
  EXPECT_EQ(e.restart_count, 2);
  EXPECT_TRUE(e.agent_hosts_store);
  EXPECT_EQ(e.run_id, "lory");
}

TEST(LaunchByTorchrun, VariablesSetByHandNeedNoAgent) {
  const LaunchEnvironment e = read({{"RANK", "5"},
                                    {"WORLD_SIZE", "6"},
                                    {"LOCAL_RANK", "1"},
                                    {"LOCAL_WORLD_SIZE", "2"},
                                    {"MASTER_ADDR", "fe80::1"},
                                    {"MASTER_PORT", "1"}});
  EXPECT_EQ(e.launcher, Launcher::kTorchrun);
  EXPECT_EQ(e.node_rank, 2);
  EXPECT_EQ(e.master_address, "fe80::1");
  EXPECT_EQ(e.restart_count, 0);
  EXPECT_FALSE(e.agent_hosts_store);
  EXPECT_EQ(e.run_id, "");
  EXPECT_EQ(read({{"RANK", "0"}, {"WORLD_SIZE", "1"}}).world_size, 1);
}

TEST(LaunchByTorchrun, WinsOverTheLauncherThatStartedIt) {
  EXPECT_EQ(read(with(kSlurm, kTorchrun)).rank, 11);
  EXPECT_EQ(read(with(kOpenMpi, kTorchrun)).rank, 11);
}

TEST(LaunchByTorchrun, EveryVariableThatIsNeededIsMissed) {
  for (const char* name :
       {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) {
    const std::string message = refusal(with(kTorchrun, {{name, ""}}));
    EXPECT_THAT(message, HasSubstr(std::string("environment variable ") + name + ": is not set"));
    EXPECT_THAT(message, HasSubstr("hint: torchrun sets it (scripts/launch/torchrun.sh)"));
  }
}

TEST(LaunchByTorchrun, NumbersAreWholeAndInRange) {
  for (const char* value : {"x", "-1", "1.5", "3 ", " 3", "0x3", "+3", "99999999999"}) {
    EXPECT_THAT(refusal(with(kTorchrun, {{"RANK", value}})),
                HasSubstr("environment variable RANK: '" + std::string(value) +
                          "' is not an integer from 0 to 2147483647"));
  }
  EXPECT_THAT(refusal(with(kTorchrun, {{"WORLD_SIZE", "0"}})), HasSubstr("WORLD_SIZE: '0'"));
  EXPECT_THAT(refusal(with(kTorchrun, {{"LOCAL_WORLD_SIZE", "0"}})),
              HasSubstr("LOCAL_WORLD_SIZE: '0'"));
  for (const char* value : {"0", "65536", "http"}) {
    EXPECT_THAT(refusal(with(kTorchrun, {{"MASTER_PORT", value}})),
                HasSubstr("' is not an integer from 1 to 65535"));
  }
  EXPECT_THAT(refusal(with(kTorchrun, {{"TORCHELASTIC_RESTART_COUNT", "-1"}})),
              HasSubstr("TORCHELASTIC_RESTART_COUNT: '-1'"));
  EXPECT_THAT(refusal(with(kTorchrun, {{"GROUP_RANK", "a"}})), HasSubstr("GROUP_RANK: 'a'"));
  EXPECT_THAT(refusal(with(kTorchrun, {{"TORCHELASTIC_USE_AGENT_STORE", "yes"}})),
              HasSubstr("'yes' is neither True nor False"));
}

TEST(LaunchByTorchrun, RanksFitTogether) {
  EXPECT_THAT(refusal(with(kTorchrun, {{"RANK", "16"}})),
              HasSubstr("RANK: 16 is not below WORLD_SIZE 16"));
  EXPECT_THAT(refusal(with(kTorchrun, {{"LOCAL_RANK", "8"}})),
              HasSubstr("LOCAL_RANK: 8 is not below LOCAL_WORLD_SIZE 8"));
  EXPECT_THAT(refusal(with(kTorchrun, {{"LOCAL_WORLD_SIZE", "17"}})),
              HasSubstr("LOCAL_WORLD_SIZE: 17 is more than WORLD_SIZE 16"));
  EXPECT_THAT(refusal(with(kTorchrun, {{"RANK", "2"}})),
              HasSubstr("LOCAL_RANK: 3 is more than RANK 2"));
  EXPECT_THAT(refusal(with(kTorchrun, {{"RANK", "15"}})),
              HasSubstr("RANK: 15 of WORLD_SIZE 16 leaves too few ranks for LOCAL_RANK 3 of "
                        "LOCAL_WORLD_SIZE 8"));
}

TEST(LaunchByTorchrun, TheMastersAddressIsOneHost) {
  for (const char* value : {"node1:29500", "tcp://node1", "node 1", "node1,node2", "node[1-2]"}) {
    EXPECT_THAT(
        refusal(with(kTorchrun, {{"MASTER_ADDR", value}})),
        HasSubstr("MASTER_ADDR: '" + std::string(value) + "' is not one host's name or address"));
  }
  for (const char* value : {"10.0.0.1", "fe80::1", "node1.cluster", "node1-ib"}) {
    EXPECT_EQ(read(with(kTorchrun, {{"MASTER_ADDR", value}})).master_address, value);
  }
}

TEST(LaunchByTorchrun, AHandMadeRankMayNotContradictTheLauncher) {
  const Environment by_hand = {{"RANK", "0"},         {"WORLD_SIZE", "4"},
                               {"LOCAL_RANK", "0"},   {"LOCAL_WORLD_SIZE", "4"},
                               {"MASTER_ADDR", "n1"}, {"MASTER_PORT", "29500"}};
  EXPECT_THAT(refusal(with(kOpenMpi, by_hand)),
              HasSubstr("RANK: 0 contradicts OMPI_COMM_WORLD_RANK 2 of 4 processes"));
  const Environment step = {{"SLURM_PROCID", "3"}, {"SLURM_NTASKS", "4"}};
  EXPECT_THAT(refusal(with(with(step, {{"SLURM_STEP_NODELIST", "n1"}}), by_hand)),
              HasSubstr("RANK: 0 contradicts SLURM_PROCID 3 of 4 processes"));
  EXPECT_EQ(read(with(step, by_hand)).rank, 0) << "a batch script's SLURM_PROCID is no rank";
  EXPECT_EQ(read(with(kOpenMpi, with(by_hand, {{"RANK", "2"}, {"LOCAL_RANK", "2"}}))).rank, 2);
}

TEST(LaunchEnvironment, AWorldSizeAloneIsNotIgnored) {
  EXPECT_THAT(refusal({{"WORLD_SIZE", "8"}}),
              HasSubstr("WORLD_SIZE: 8, but the launcher's own variables tell of 1 process\n"));
  EXPECT_THAT(refusal(with(kOpenMpi, {{"WORLD_SIZE", "8"}})), HasSubstr("of 4 processes"));
  EXPECT_THAT(refusal({{"WORLD_SIZE", "eight"}}), HasSubstr("'eight' is not an integer"));
  EXPECT_EQ(read(with(kSlurm, {{"WORLD_SIZE", "35"}})).world_size, 35);
}

// ---- Slurm

TEST(LaunchBySlurm, ReadsEveryVariable) {
  const LaunchEnvironment e = read(kSlurm);
  EXPECT_EQ(e.launcher, Launcher::kSlurm);
  EXPECT_EQ(e.rank, 34);
  EXPECT_EQ(e.world_size, 35);
  EXPECT_EQ(e.local_rank, 2);
  EXPECT_EQ(e.local_world_size, 3);
  EXPECT_EQ(e.node_rank, 4);
  EXPECT_EQ(e.master_address, "node003");
  EXPECT_EQ(e.master_port, 24567);
  EXPECT_EQ(e.restart_count, 0);
  EXPECT_FALSE(e.agent_hosts_store);
  EXPECT_EQ(e.run_id, "1234567");
  EXPECT_EQ(read(with(kSlurm, {{"SLURM_RESTART_COUNT", "3"}})).restart_count, 3);
}

TEST(LaunchBySlurm, TheMasterMayBeNamed) {
  const LaunchEnvironment e =
      read(with(kSlurm, {{"MASTER_ADDR", "node003-ib"}, {"MASTER_PORT", "31000"}}));
  EXPECT_EQ(e.master_address, "node003-ib");
  EXPECT_EQ(e.master_port, 31000);
}

TEST(LaunchBySlurm, TheJobsPortIsNoEphemeralOne) {
  for (const char* job : {"0", "9999", "10000", "4294967295"}) {
    const int port = read(with(kSlurm, {{"SLURM_JOB_ID", job}})).master_port;
    EXPECT_GE(port, 20000) << job;
    EXPECT_LT(port, 30000) << job;
  }
}

TEST(LaunchBySlurm, TheFirstHostOfEveryKindOfList) {
  for (const auto& [list, host] :
       std::map<std::string, std::string>{{"node1", "node1"},
                                          {"node1,node2", "node1"},
                                          {"node[003-006,010],login1", "node003"},
                                          {"node[7]", "node7"},
                                          {"login1,node[003-006]", "login1"},
                                          {"rack[2-3]node[08,10]", "rack2node08"},
                                          {"n[01-02]-ib.cluster", "n01-ib.cluster"},
                                          {"gpu-a-[100-103]", "gpu-a-100"}}) {
    EXPECT_EQ(read(with(kSlurm, {{"SLURM_STEP_NODELIST", list}})).master_address, host);
  }
}

TEST(LaunchBySlurm, BrokenHostListsAreRefused) {
  for (const char* list : {"node[003", "node[]", "node[-3]", "node[a-b]", ",node1", "node3]", " ",
                           "node 1", "[003-006"}) {
    EXPECT_THAT(refusal(with(kSlurm, {{"SLURM_STEP_NODELIST", list}})),
                HasSubstr("SLURM_STEP_NODELIST: '" + std::string(list) +
                          "' is not a list of hosts such as node[003-006,010],login1"));
  }
}

TEST(LaunchBySlurm, TasksOfThisNodeFromEveryKindOfList) {
  struct Case {
    const char *list, *world, *node, *rank;
    int local_size;
  };
  for (const auto& [list, world, node, rank, size] :
       {Case{"4", "4", "0", "1", 4}, Case{"8(x2)", "16", "1", "9", 8},
        Case{"2,3,1", "6", "1", "3", 3}, Case{"2(x2),3(x2),1", "11", "3", "8", 3},
        Case{"2(x2),3(x2),2", "12", "4", "11", 2}}) {
    const Environment changes = {{"SLURM_STEP_TASKS_PER_NODE", list},
                                 {"SLURM_NTASKS", world},
                                 {"SLURM_NODEID", node},
                                 {"SLURM_PROCID", rank},
                                 {"SLURM_LOCALID", "1"}};
    EXPECT_EQ(read(with(kSlurm, changes)).local_world_size, size) << list;
  }
}

TEST(LaunchBySlurm, TheStepsListWinsOverTheJobs) {
  EXPECT_EQ(read(with(kSlurm, {{"SLURM_TASKS_PER_NODE", "8(x8)"}})).local_world_size, 3);
  const Environment jobs = with(kSlurm, {{"SLURM_STEP_TASKS_PER_NODE", ""}});
  EXPECT_EQ(read(jobs).local_world_size, 3);
  EXPECT_THAT(refusal(with(jobs, {{"SLURM_TASKS_PER_NODE", "8(x8)"}})),
              HasSubstr("SLURM_TASKS_PER_NODE: '8(x8)' is 64 tasks, SLURM_NTASKS is 35"));
}

TEST(LaunchBySlurm, WithoutListsTasksAreEvenlySpread) {
  const Environment evenly = with(kSlurm, {{"SLURM_STEP_TASKS_PER_NODE", ""},
                                           {"SLURM_TASKS_PER_NODE", ""},
                                           {"SLURM_NTASKS_PER_NODE", "7"},
                                           {"SLURM_LOCALID", "6"}});
  EXPECT_EQ(read(evenly).local_world_size, 7);
  EXPECT_THAT(refusal(with(evenly, {{"SLURM_NTASKS_PER_NODE", "8"}})),
              HasSubstr("SLURM_NTASKS_PER_NODE: 8 does not divide SLURM_NTASKS 35"));
  EXPECT_THAT(refusal(with(evenly, {{"SLURM_NTASKS_PER_NODE", ""}})),
              HasSubstr("SLURM_NTASKS_PER_NODE: is not set"));
}

TEST(LaunchBySlurm, BrokenTaskListsAreRefused) {
  for (const char* list : {"x", "8(x4", "8(4),3", "8(x0),35", "0(x4),35", "8(x4),", "8(x4);3",
                           "8(x4)3", "99999999999", "8(x99999999999)", "-8"}) {
    EXPECT_THAT(refusal(with(kSlurm, {{"SLURM_STEP_TASKS_PER_NODE", list}})),
                HasSubstr("SLURM_STEP_TASKS_PER_NODE: '" + std::string(list) +
                          "' is not a list such as 8(x4),3"));
  }
}

TEST(LaunchBySlurm, RanksFitTogether) {
  EXPECT_THAT(refusal(with(kSlurm, {{"SLURM_NODEID", "5"}})),
              HasSubstr("SLURM_NODEID: 5 is no node of SLURM_STEP_TASKS_PER_NODE '8(x4),3'"));
  EXPECT_THAT(refusal(with(kSlurm, {{"SLURM_PROCID", "35"}})),
              HasSubstr("SLURM_PROCID: 35 is not below SLURM_NTASKS 35"));
  EXPECT_THAT(refusal(with(kSlurm, {{"SLURM_LOCALID", "3"}})),
              HasSubstr("SLURM_LOCALID: 3 is not below SLURM_STEP_TASKS_PER_NODE 3"));
  for (const char* name : {"SLURM_LOCALID", "SLURM_NODEID", "SLURM_JOB_ID"}) {
    EXPECT_THAT(refusal(with(kSlurm, {{name, ""}})), HasSubstr(std::string(name) + ": is not set"));
  }
  EXPECT_THAT(refusal(with(kSlurm, {{"SLURM_JOB_ID", "job"}})), HasSubstr("SLURM_JOB_ID: 'job'"));
}

TEST(LaunchBySlurm, CyclicPlacementIsRanksInAnotherOrder) {
  const Environment cyclic = {{"SLURM_STEP_TASKS_PER_NODE", "2(x2)"},
                              {"SLURM_NTASKS", "4"},
                              {"SLURM_NODEID", "0"},
                              {"SLURM_PROCID", "2"},
                              {"SLURM_LOCALID", "1"}};
  EXPECT_EQ(read(with(kSlurm, cyclic)).rank, 2);
  EXPECT_EQ(read(with(kSlurm,
                      with(cyclic,
                           {{"SLURM_NODEID", "1"}, {"SLURM_PROCID", "1"}, {"SLURM_LOCALID", "0"}})))
                .node_rank,
            1);
}

TEST(LaunchBySlurm, InteractiveAllocationsAreOneProcess) {
  // salloc's shell: the job's variables, no task's.
  expect_one_process({{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "16"}, {"SLURM_NODELIST", "n[1-2]"}});
  // srun --pty
  expect_one_process(with(kSlurm, {{"SLURM_NTASKS", "1"}, {"SLURM_PROCID", "0"}}));
  // a batch script in which nobody asked for tasks
  expect_one_process({{"SLURM_JOB_ID", "7"}, {"SLURM_PROCID", "0"}, {"SLURM_LOCALID", "0"}});
}

TEST(LaunchBySlurm, ABatchScriptsOwnProcessIsNoTaskOfMany) {
  const std::string message = refusal(with(kSlurm, {{"SLURM_STEP_NODELIST", ""}}));
  EXPECT_THAT(message, HasSubstr("SLURM_NTASKS: 35, but srun did not start this process"));
  EXPECT_THAT(message, HasSubstr("hint: start it with srun (scripts/launch/srun.sh)"));
}

// ---- Open MPI

TEST(LaunchByOpenMpi, ReadsEveryVariable) {
  const LaunchEnvironment e = read(kOpenMpi);
  EXPECT_EQ(e.launcher, Launcher::kOpenMpi);
  EXPECT_EQ(e.rank, 2);
  EXPECT_EQ(e.world_size, 4);
  EXPECT_EQ(e.local_rank, 2);
  EXPECT_EQ(e.local_world_size, 4);
  EXPECT_EQ(e.node_rank, 0);
  EXPECT_EQ(e.master_address, "127.0.0.1");
  EXPECT_EQ(e.master_port, 29500);
  EXPECT_FALSE(e.agent_hosts_store);
}

TEST(LaunchByOpenMpi, SeveralNodesNeedAnAddress) {
  const Environment two_nodes = with(kOpenMpi, {{"OMPI_COMM_WORLD_RANK", "3"},
                                                {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                                                {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}});
  EXPECT_THAT(refusal(two_nodes),
              HasSubstr("MASTER_ADDR: is not set, and 2 of 4 ranks are on other nodes"));
  const LaunchEnvironment e =
      read(with(two_nodes, {{"MASTER_ADDR", "n1"}, {"MASTER_PORT", "31000"}}));
  EXPECT_EQ(e.node_rank, 1);
  EXPECT_EQ(e.master_address, "n1");
  EXPECT_EQ(e.master_port, 31000);
}

TEST(LaunchByOpenMpi, WinsOverTheSlurmJobItRunsIn) {
  // mpirun starts its daemons with srun: they, and their ranks, have a SLURM_PROCID too.
  EXPECT_EQ(read(with(kSlurm, kOpenMpi)).launcher, Launcher::kOpenMpi);
}

TEST(LaunchByOpenMpi, EveryVariableIsMissed) {
  for (const auto& [name, value] : kOpenMpi) {
    if (name == "OMPI_COMM_WORLD_NODE_RANK") continue;  // the rank within a node, not the node's
    EXPECT_THAT(refusal(with(kOpenMpi, {{name, ""}})), HasSubstr(name + ": is not set"));
    EXPECT_THAT(refusal(with(kOpenMpi, {{name, "x"}})), HasSubstr(name + ": 'x'"));
  }
  EXPECT_THAT(refusal(with(kOpenMpi, {{"OMPI_COMM_WORLD_RANK", "4"}})),
              HasSubstr("OMPI_COMM_WORLD_RANK: 4 is not below OMPI_COMM_WORLD_SIZE 4"));
}

}  // namespace
}  // namespace lorikeet
